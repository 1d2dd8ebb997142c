"""The store of a broker: one physical offset over all queues, and records found from it."""

from __future__ import annotations

from broker_sim.store.store import Store
from rocketmq_aio.wire.stored import encode_stored

HOST = (b"\x7f\0\0\1", 10911)


def put(store: Store, topic: str, queue_id: int, body: bytes) -> int:
    log = store.open_log(topic, queue_id)
    record = encode_stored(
        topic=topic, body=body, property_string="", queue_id=queue_id, born_timestamp_ms=1, born_host=HOST,
        store_host=HOST, queue_offset=log.next_offset, physical_offset=store.physical_offset, store_timestamp_ms=5,
    )  # fmt: skip
    store.append(log, record)
    return len(record)


def test_physical_offset_runs_through_all_queues() -> None:
    """Each record's physical offset is the size of what was stored before it, wherever that went."""
    store = Store()
    sizes = [put(store, "A", 0, b"1"), put(store, "B", 3, b"22"), put(store, "A", 0, b"333")]
    assert store.physical_offset == sum(sizes)
    stored = store.messages("A") + store.messages("B")
    assert [(one.queue_offset, one.physical_offset) for one in stored] == [(0, 0), (1, sum(sizes[:2])), (0, sizes[0])]


def test_find_by_physical_offset() -> None:
    """A record is found by where it begins, in whatever queue; nothing else is found."""
    store = Store()
    first = put(store, "A", 1, b"one")
    put(store, "B", 0, b"two")
    assert store.find(first) == store.open_log("B", 0).record(0)
    assert store.find(first + 1) is None
    assert store.find(-1) is None


def test_messages_come_by_queue_and_offset() -> None:
    """All queues in order, or one; nothing of what does not exist."""
    store = Store()
    for queue_id, body in ((2, b"c"), (0, b"a"), (2, b"d"), (0, b"b")):
        put(store, "T", queue_id, body)
    assert [one.body for one in store.messages("T")] == [b"a", b"b", b"c", b"d"]
    assert [one.body for one in store.messages("T", 2)] == [b"c", b"d"]
    assert store.messages("T", 1) == store.messages("X") == []


def test_a_queue_without_messages_has_no_log() -> None:
    """Opening a log does not make the queue exist; its offsets are those of an unknown queue."""
    store = Store()
    log = store.open_log("T", 0)
    assert store.log("T", 0) is None
    assert store.max_offset("T", 0) == store.max_offset("X", 7) == 0
    put(store, "T", 0, b"x")
    assert store.log("T", 0) is log
    assert store.max_offset("T", 0) == 1
