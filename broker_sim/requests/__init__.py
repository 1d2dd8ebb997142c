"""What servers do with requests: one file for each family, plain functions that run to their end and never await."""
