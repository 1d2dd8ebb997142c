"""The store of one broker: the only door to its logs.

One physical offset runs through all queues of a broker: the bytes that were stored before a record, in whatever queue.

Source: `DefaultMessageStore.java` (5.3.3).
Differs: a stored message can be read at once; with Java that takes up to a few milliseconds. Nothing expires.
"""

from __future__ import annotations

from broker_sim.store.log import QueueLog
from rocketmq_aio.wire.stored import StoredMessage, decode_stored

__all__ = ["Store"]


_NO_LOGS: dict[int, QueueLog] = {}


class Store:
    """The logs of all queues.

    Attributes:
        physical_offset: that of the next record; the bytes stored so far.
    """

    def __init__(self) -> None:
        self.physical_offset = 0
        self._stored_ms = 0
        self._logs: dict[str, dict[int, QueueLog]] = {}

    def stored_ms(self, now_ms: int) -> int:
        """The store time of a record that comes now: it never falls, whatever the clock does, for it is searched by."""
        if now_ms > self._stored_ms:
            self._stored_ms = now_ms
        return self._stored_ms

    def open_log(self, topic: str, queue_id: int) -> QueueLog:
        """The log of a queue, made if need be; nobody checks here whether topic and queue exist."""
        logs = self._logs.get(topic)
        if logs is None:
            logs = self._logs[topic] = {}
        log = logs.get(queue_id)
        if log is None:
            log = logs[queue_id] = QueueLog()
        return log

    def append(self, log: QueueLog, record: bytes) -> None:
        """Store a record at the end of a queue.

        Args:
            log: of the queue.
            record: says of itself that it is at `log.next_offset` and at `physical_offset`.
        """
        log.append(record)
        self.physical_offset += len(record)

    def log(self, topic: str, queue_id: int) -> QueueLog | None:
        """The log of a queue; None if nothing was ever stored there."""
        log = self._logs.get(topic, _NO_LOGS).get(queue_id)
        return log if log is not None and log.next_offset else None

    def max_offset(self, topic: str, queue_id: int) -> int:
        """The offset that the next message of the queue gets; 0 for an unknown queue."""
        log = self.log(topic, queue_id)
        return 0 if log is None else log.next_offset

    def find(self, physical_offset: int) -> bytes | None:
        """The record that begins at a physical offset, or None."""
        for logs in self._logs.values():
            for log in logs.values():
                offset = log.find_physical(physical_offset)
                if offset is not None:
                    return log.record(offset)
        return None

    def messages(self, topic: str, queue_id: int | None = None) -> list[StoredMessage]:
        """What a topic has, by queue and offset.

        Args:
            topic: the topic's name.
            queue_id: one queue only; None for all.
        """
        logs = self._logs.get(topic, {})
        wanted = sorted(logs) if queue_id is None else [queue_id] if queue_id in logs else []
        return [
            decode_stored(logs[number].record(offset))[0]
            for number in wanted
            for offset in range(logs[number].next_offset)
        ]
