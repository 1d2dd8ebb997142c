"""The log of one queue: encoded records, one behind the other, and where each begins.

*Chunks.* Records are packed into chunks of a quarter of a megabyte. The last chunk grows; a full one is sealed, which
gives its spare room back. A record lies in one chunk, so that a pull is one slice, or a few that are joined. An entry
of the index is 8 bytes for a message: the chunk's number and the place in it. So a message costs little more than its
bytes.

A log knows two numbers inside a record, its physical offset and its store time, because it searches by them. It knows
nothing else of records, and nothing of topics.

Source: `ConsumeQueue.java`, `CommitLog.java` (5.3.3) for what offsets mean.
Differs: Java writes all queues into one log and indexes that; here each queue has its own, with the same offsets.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from struct import Struct

from rocketmq_aio.wire.stored import record_physical_offset, record_store_timestamp_ms

__all__ = ["QueueLog"]

CHUNK_BYTES = 256 * 1024

_PLACE_BITS = 32
_PLACE_MASK = (1 << _PLACE_BITS) - 1

_unpack_size = Struct(">i").unpack_from


class QueueLog:
    """An append-only sequence of records, counted from offset 0.

    Attributes:
        next_offset: the queue offset that the next record gets; equal to the number of records.
    """

    __slots__ = ("_base", "_chunks", "_entries", "_last", "next_offset")

    def __init__(self) -> None:
        self.next_offset = 0
        self._entries = array("Q")
        self._last = bytearray()
        self._chunks: list[bytes | bytearray] = [self._last]
        self._base = 0  # the entry of a record at place 0 of the last chunk

    def append(self, record: bytes) -> None:
        """Take a whole record, which says of itself that it is at `next_offset`."""
        last = self._last
        place = len(last)
        if place + len(record) > CHUNK_BYTES and place:
            self._seal()
            last, place = self._last, 0
        self._entries.append(self._base + place)
        last += record
        self.next_offset += 1

    def _seal(self) -> None:
        self._chunks[-1] = bytes(self._last)
        self._last = bytearray()
        self._chunks.append(self._last)
        self._base += 1 << _PLACE_BITS

    def read(self, offset: int, count_max: int, bytes_max: int) -> tuple[bytes, int]:
        """Records from `offset` on, as one piece of bytes.

        Args:
            offset: of the first record, from 0 to below `next_offset`.
            count_max: records at most, from 1.
            bytes_max: bytes at most; the first record is read whatever its size.

        Returns:
            The records, and how many they are.
        """
        entries, chunks = self._entries, self._chunks
        end = min(offset + count_max, self.next_offset)
        pieces: list[bytes] = []
        count = size = 0
        while offset < end:
            number, start = entries[offset] >> _PLACE_BITS, entries[offset] & _PLACE_MASK
            chunk = chunks[number]
            stop = start
            while offset < end and entries[offset] >> _PLACE_BITS == number:
                record_end = stop + _unpack_size(chunk, stop)[0]
                if count and size + record_end - start > bytes_max:
                    end = offset
                    break
                stop = record_end
                offset += 1
                count += 1
            size += stop - start
            pieces.append(bytes(chunk[start:stop]))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), count

    def record(self, offset: int) -> bytes:
        """The record at `offset`, from 0 to below `next_offset`."""
        chunk, place = self._place(offset)
        return bytes(chunk[place : place + _unpack_size(chunk, place)[0]])

    def store_timestamp_ms(self, offset: int) -> int:
        """When the record at `offset` was stored, in milliseconds since 1970."""
        return record_store_timestamp_ms(*self._place(offset))

    def first_stored_at_or_after(self, timestamp_ms: int) -> int:
        """The first offset whose record was stored at `timestamp_ms` or later; `next_offset` if there is none."""
        return self._first(record_store_timestamp_ms, timestamp_ms)

    def find_physical(self, physical_offset: int) -> int | None:
        """The queue offset of the record with exactly this physical offset, or None."""
        offset = self._first(record_physical_offset, physical_offset)
        if offset < self.next_offset and record_physical_offset(*self._place(offset)) == physical_offset:
            return offset
        return None

    def _place(self, offset: int) -> tuple[bytes | bytearray, int]:
        entry = self._entries[offset]
        return self._chunks[entry >> _PLACE_BITS], entry & _PLACE_MASK

    def _first(self, number: Callable[[bytes | bytearray, int], int], wanted: int) -> int:
        """The first offset whose `number` is `wanted` or more. Such numbers never fall from one record to the next."""
        low, high = 0, self.next_offset
        while low < high:
            middle = (low + high) // 2
            if number(*self._place(middle)) < wanted:
                low = middle + 1
            else:
                high = middle
        return low
