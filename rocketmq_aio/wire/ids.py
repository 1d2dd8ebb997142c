"""The two ids of a message: the unique id that its producer gives it, and the offset id that its broker gives it.

A unique id is upper-case hex of ``address | pid (2) | salt (4) | milliseconds of the month (4) | counter (2)``, an
offset id of ``address | port (4) | physical offset (8)``. An address has 4 or 16 bytes, so that both ids have 32 or 56
digits. This file tells no time and draws no random number: both are arguments.

How unique ids stay unique: ids with one time part differ in the counter, and the time part never goes back. When the
wall clock stands still or is set back, the time part stays where it is, and moves on by a millisecond of its own before
the counter comes round. A new month takes a new salt, because the milliseconds of the month begin again.

Source: `MessageClientIDSetter.java`, `MessageDecoder.java`, `UtilAll.java` (5.3.3).
Differs: Java puts the hash code of its class loader where we have the salt. Java repeats ids after 65,536 in one
millisecond, and when the clock is set back.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rocketmq_aio.errors import LocalProtocolError

if TYPE_CHECKING:
    from rocketmq_aio.environment import ProcessIdentity

__all__ = [
    "UniqueIds", "local_month_ms", "offset_message_id", "parse_offset_message_id", "parse_unique_id", "utc_month_ms",
]

_OFFSET_TAIL = struct.Struct(">iq")
_UNIQUE_TAIL = struct.Struct(">HIIH")
_ADDRESS_SIZES = (4, 16)

#: The low byte of the counter as text.
_LOW_BYTE = tuple(f"{number:02X}" for number in range(256))


def offset_message_id(address: bytes, port: int, physical_offset: int) -> str:
    """The broker's id of a message.

    Args:
        address: the broker's address, 4 or 16 bytes.
        port: the broker's port.
        physical_offset: the message's place in the broker's log, in bytes.

    Raises:
        LocalProtocolError: an argument does not fit.
    """
    try:
        return (address + _OFFSET_TAIL.pack(port, physical_offset)).hex().upper()
    except struct.error:
        raise LocalProtocolError(
            f"Port {port} or physical offset {physical_offset} does not fit into an offset message id (32 and 64 bits)."
        ) from None


def parse_offset_message_id(text: str) -> tuple[bytes, int, int]:
    """Address, port and physical offset in an offset message id, in digits of either case.

    Raises:
        LocalProtocolError: it is no such id.
    """
    address, tail = _split(text, "an offset message id", _OFFSET_TAIL.size)
    port, physical_offset = _OFFSET_TAIL.unpack(tail)
    if not 0 <= port <= 0xFFFF:
        raise LocalProtocolError(f"{text!r} is not an offset message id: its port {port} is not from 0 to 65535.")
    return address, port, physical_offset


def parse_unique_id(text: str) -> tuple[bytes, int, int, int, int]:
    """Address, process id (16 bits), salt, milliseconds of the month and counter in a unique id.

    Raises:
        LocalProtocolError: it is not laid out as Java's unique ids are. Other clients' ids may be any text.
    """
    address, tail = _split(text, "a unique id", _UNIQUE_TAIL.size)
    pid, salt, month_ms, counter = _UNIQUE_TAIL.unpack(tail)
    return address, pid, salt, month_ms, counter


def _split(text: str, what: str, tail_size: int) -> tuple[bytes, bytes]:
    # bytes.fromhex skips white space, and would take such a text for a shorter id.
    try:
        data = bytes.fromhex(text) if text.isalnum() else b""
    except ValueError:
        data = b""
    address = data[:-tail_size]
    if len(address) not in _ADDRESS_SIZES:
        raise LocalProtocolError(f"{text[:64]!r} is not {what}: it must have 32 or 56 hexadecimal digits.")
    return address, data[-tail_size:]


def local_month_ms(wall_ms: int) -> tuple[int, int]:
    """When the month of `wall_ms` begins and when the next one does, in the host's time zone, as Java has it.

    Args:
        wall_ms: milliseconds since 1970.

    Returns:
        Both as milliseconds since 1970.
    """
    here = datetime.fromtimestamp(wall_ms // 1000, UTC).astimezone()
    # Without its zone: the offset from UTC at the start of the month need not be that of today.
    start = here.replace(tzinfo=None, day=1, hour=0, minute=0, second=0, microsecond=0)
    return _milliseconds(start), _milliseconds(_next_month(start))


def utc_month_ms(wall_ms: int) -> tuple[int, int]:
    """As `local_month_ms`, in UTC: for simulations, which give the same ids on every host."""
    here = datetime.fromtimestamp(wall_ms // 1000, UTC)
    start = here.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return _milliseconds(start), _milliseconds(_next_month(start))


def _next_month(start: datetime) -> datetime:
    return (start + timedelta(days=32)).replace(day=1)


def _milliseconds(instant: datetime) -> int:
    return int(instant.timestamp()) * 1000


class UniqueIds:
    """Gives unique ids: no two are equal, whatever the clock does. For one process and one thread.

    Args:
        identity: of the process that gives the ids.
        salt: 32 random bits. They tell apart generators with the same address and process id.
        counter_start: where the 16-bit counter begins. Like Java's it runs on from one millisecond to the next.
        month_ms: when the month of an instant and the next one begin, all in milliseconds since 1970.

    Raises:
        LocalProtocolError: the identity's address has neither 4 nor 16 bytes.
    """

    __slots__ = ("_address_and_pid", "_blocks", "_high", "_low", "_month_ms", "_month_start", "_ms", "_next_month",
                 "_prefix", "_salt", "_until")

    def __init__(
        self,
        identity: ProcessIdentity,
        *,
        salt: int,
        counter_start: int,
        month_ms: Callable[[int], tuple[int, int]] = local_month_ms,
    ) -> None:
        if len(identity.address) not in _ADDRESS_SIZES:
            raise LocalProtocolError(f"The host's address has {len(identity.address)} bytes, not 4 or 16.")
        self._address_and_pid = (identity.address + (identity.pid & 0xFFFF).to_bytes(2, "big")).hex().upper()
        self._salt = salt & 0xFFFF_FFFF
        self._month_ms = month_ms
        self._month_start = self._next_month = 0
        self._high = counter_start >> 8 & 0xFF
        self._low = counter_start & 0xFF
        # The millisecond that ids are given for now, how many blocks of 256 ids it has had, and the wall clock's time,
        # in seconds, from which on it is over. The first call finds it over.
        self._ms = -1
        self._blocks = 0
        self._until = float("-inf")
        self._prefix = ""

    def next_id(self, wall_seconds: float) -> str:
        """The next id.

        Args:
            wall_seconds: the wall clock, in seconds since 1970.
        """
        low = self._low
        if low < 256 and wall_seconds < self._until:
            self._low = low + 1
            return self._prefix + _LOW_BYTE[low]
        return self._next_in_new_block(wall_seconds)

    def _next_in_new_block(self, wall_seconds: float) -> str:
        """The next id when the millisecond, or the counter's high byte, is another one."""
        if self._low == 256:
            self._low = 0
            self._high = self._high + 1 & 0xFF
            self._blocks += 1
        ms = int(wall_seconds * 1000)
        # 256 blocks, the first of which may be the rest of one: one more could repeat its counters.
        if ms <= self._ms:
            ms = self._ms if self._blocks <= 256 else self._ms + 1
        if ms != self._ms:
            self._blocks = 1
            self._ms = ms
            self._until = (ms + 1) / 1000
            if ms >= self._next_month:
                self._begin_month(ms)
        month_ms = ms - self._month_start & 0xFFFF_FFFF
        self._prefix = f"{self._address_and_pid}{self._salt:08X}{month_ms:08X}{self._high:02X}"
        low = self._low
        self._low = low + 1
        return self._prefix + _LOW_BYTE[low]

    def _begin_month(self, ms: int) -> None:
        if self._next_month:
            # A full-period generator of 32 bits: no salt comes back within 2^32 months.
            self._salt = (self._salt * 1_664_525 + 1_013_904_223) & 0xFFFF_FFFF
        self._month_start, self._next_month = self._month_ms(ms)
