"""What a broker keeps: topics, and a log of records for each queue."""
