"""The log of one queue keeps records as they are and finds them by offset, time and physical offset."""

from __future__ import annotations

import sys
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_sim.store import log as log_module
from broker_sim.store.log import QueueLog
from rocketmq_aio.wire.stored import decode_many, encode_stored

V4 = (b"\x7f\0\0\1", 10911)
V6 = (bytes(15) + b"\1", 10911)


def record(offset: int, body: bytes = b"body", *, at_ms: int = 0, physical: int = 0, v6: bool = False) -> bytes:
    encoded = encode_stored(
        topic="T", body=body, property_string="", queue_id=0, born_timestamp_ms=1, born_host=V6 if v6 else V4,
        store_host=V4, queue_offset=offset, physical_offset=physical, store_timestamp_ms=at_ms,
    )  # fmt: skip
    return bytes(encoded)


def filled(times: list[int], *, v6: bool = False) -> QueueLog:
    log = QueueLog()
    for offset, at_ms in enumerate(times):
        log.append(record(offset, at_ms=at_ms, physical=offset * 1000, v6=v6))
    return log


def test_read_gives_the_records_themselves() -> None:
    """A range comes back byte for byte, and says how many records it has."""
    log = QueueLog()
    records = [record(offset, b"x" * offset) for offset in range(5)]
    for one in records:
        log.append(one)
    assert log.next_offset == 5
    assert log.read(0, 32, 1 << 20) == (b"".join(records), 5)
    assert log.read(2, 2, 1 << 20) == (records[2] + records[3], 2)
    assert log.record(4) == records[4]


def test_read_stops_at_the_limit_of_bytes_but_gives_one_record() -> None:
    """The first record is read whatever its size; a further one only if it fits."""
    log = QueueLog()
    records = [record(offset, b"x" * 100) for offset in range(3)]
    for one in records:
        log.append(one)
    size = len(records[0])
    assert log.read(0, 3, 1) == (records[0], 1)
    assert log.read(0, 3, 2 * size - 1) == (records[0], 1)
    assert log.read(0, 3, 2 * size) == (records[0] + records[1], 2)


@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
def test_search_by_time(v6: bool) -> None:
    """The first record of a time or later is found; of equal times the first; behind all, the end."""
    log = filled([10, 20, 20, 30], v6=v6)
    found = {at: log.first_stored_at_or_after(at) for at in (0, 10, 11, 20, 21, 30, 31)}
    assert found == {0: 0, 10: 0, 11: 1, 20: 1, 21: 3, 30: 3, 31: 4}
    assert log.store_timestamp_ms(3) == 30


def test_search_by_physical_offset() -> None:
    """Only the exact beginning of a record is found."""
    log = filled([1, 2, 3])
    assert [log.find_physical(offset) for offset in (0, 1000, 2000)] == [0, 1, 2]
    assert [log.find_physical(offset) for offset in (-1, 1, 999, 2001)] == [None] * 4
    assert QueueLog().find_physical(0) is None


@given(
    sizes=st.lists(st.integers(0, 400), min_size=1, max_size=40),
    chunk=st.integers(1, 1000),
    looks=st.sets(st.integers(0, 39)),
    start=st.integers(0, 39),
    count=st.integers(1, 40),
    limit=st.integers(1, 3000),
)
def test_chunks_cannot_be_seen(
    sizes: list[int], chunk: int, looks: set[int], start: int, count: int, limit: int
) -> None:
    """Whatever the size of chunks, and whenever somebody looks, reading gives what a list of records would give."""
    records = [record(offset, b"x" * size, physical=offset) for offset, size in enumerate(sizes)]
    with mock.patch.object(log_module, "CHUNK_BYTES", chunk):
        log = QueueLog()
        for offset, one in enumerate(records):
            log.append(one)
            if offset in looks:
                assert log.record(offset) == one
    start = min(start, len(records) - 1)
    wanted: list[bytes] = []
    for one in records[start : start + count]:
        if wanted and sum(map(len, wanted)) + len(one) > limit:
            break
        wanted.append(one)
    assert log.read(start, count, limit) == (b"".join(wanted), len(wanted))
    assert [log.record(offset) for offset in range(len(records))] == records
    assert [log.find_physical(offset) for offset in range(len(records))] == list(range(len(records)))
    assert len(decode_many(log.read(0, len(records), 1 << 20)[0])) == len(records)


def test_memory_beside_the_records_is_small() -> None:
    """A stored message costs at most 24 bytes more than its record."""
    log, one, count = QueueLog(), record(0, b"x" * 100), 20_000
    for _ in range(count):
        log.append(one)
    pieces = [log._entries, log._chunks, *log._chunks]
    size = sum(map(sys.getsizeof, pieces))
    assert size <= count * (len(one) + 24)
