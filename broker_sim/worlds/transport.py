"""One end of a connection in memory: an asyncio transport without a socket, on any loop.

What an end writes is *under way* until it arrives, in the order in which it was written; an end that does not read lets
it lie. Both count as the writer's buffer, so that a slow reader slows the writer down.

*Context.* An arrival runs in the context of the write that caused it, its timer included, and never in that in which
the transport was made. So a virtual loop can tell the traffic of heartbeats from the traffic of the program.

Who may connect to whom is the network's business (`memory.py`).
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from broker_sim.worlds.links import Link

__all__ = ["HIGH_WATER_BYTES", "Address", "MemoryTransport"]

Address = tuple[str, int]

HIGH_WATER_BYTES = 64 * 1024
"""A writer is paused above it, as in asyncio."""


class _Mark:
    """Something that is under way between the bytes."""

    def __len__(self) -> int:
        return 0


_EOF: Final = _Mark()
_RESET: Final = _Mark()


class MemoryTransport(asyncio.Transport):
    """One end of a connection. `MemoryNetwork` makes them in pairs.

    `close()` lets everything arrive, then both ends lose the connection without an error. `abort()` forgets what lies
    unread; the other end gets a `ConnectionResetError`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: Link,
        sockname: Address,
        peername: Address,
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__({"sockname": sockname, "peername": peername})
        self._loop = loop
        self._link = link
        self._on_lost = on_lost
        self._peer: MemoryTransport = self
        self._protocol: asyncio.Protocol | None = None
        self._under_way: deque[bytes | _Mark] = deque()
        self._unread: deque[tuple[bytes | _Mark, contextvars.Context]] = deque()
        self._drain_due = False
        self._buffered = 0
        self._high = HIGH_WATER_BYTES
        self._low = HIGH_WATER_BYTES // 4
        self._writing_paused = False
        self._reading = False
        self._eof_sent = False
        self._reset_sent = False
        self._closing = False
        self._losing = False

    def pair(self, peer: MemoryTransport) -> None:
        """Make two transports the ends of one connection."""
        self._peer, peer._peer = peer, self

    def open(self, protocol: asyncio.Protocol) -> None:
        """Give this end its protocol. What has arrived before is read after `connection_made`."""
        self._protocol = protocol
        try:
            protocol.connection_made(self)
        except BaseException:
            self.abort()
            raise
        self.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol."""
        if not isinstance(protocol, asyncio.Protocol):
            raise TypeError(f"{type(protocol).__name__} is not an asyncio.Protocol, the only kind there is in memory")
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol of this end."""
        assert self._protocol is not None, "a transport is handed out with its protocol"
        return self._protocol

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes. Each write arrives as one `data_received`. Ignored after `close`, as in asyncio."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes-like, not {type(data).__name__}")
        if self._closing:
            return
        if self._eof_sent:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data:
            return
        data = bytes(data)
        self._buffered += len(data)
        self._send(data)
        if self._buffered > self._high and not self._writing_paused:
            self._pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send pieces of bytes as one write."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Say that nothing more comes. The other direction stays open if the peer's protocol wants it so."""
        if not self._closing and not self._eof_sent:
            self._eof_sent = True
            self._send(_EOF)

    def can_write_eof(self) -> bool:
        """True."""
        return True

    def get_write_buffer_size(self) -> int:
        """Bytes that the peer's protocol has not received yet."""
        return self._buffered

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and the high limit, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits in bytes. A missing low limit is a quarter of the high one."""
        if high is None:
            high = HIGH_WATER_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        if self._buffered > high and not self._writing_paused:
            self._pause_writing()

    # Reading.

    def is_reading(self) -> bool:
        """Whether arriving bytes are given to the protocol."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Let arriving bytes lie."""
        self._reading = False

    def resume_reading(self) -> None:
        """Read on, what lies unread first."""
        if not self._closing and not self._reading:
            self._reading = True
            self._drain_soon()

    # Ending.

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the connection is lost."""
        return self._closing

    def close(self) -> None:
        """Stop reading, let arrive what was written, and close."""
        if self._closing:
            return
        self.write_eof()
        self._closing = True
        self._forget_unread()
        if not self._buffered:
            self._lose(None)

    def abort(self) -> None:
        """Close at once."""
        self._fail(None)

    def _fail(self, error: Exception | None) -> None:
        if not self._losing:
            self._closing = True
            self._send_reset()
            self._forget_unread()
            self._buffered = 0
            self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        self._losing = True
        self._loop.call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        self._on_lost()
        if self._protocol is not None:
            self._protocol.connection_lost(error)

    # Under way.

    def _send(self, item: bytes | _Mark) -> None:
        self._under_way.append(item)
        loop = self._loop
        now = loop.time()
        due = self._link.arrival(now)
        # Neither names a context: so it is the current one, the writer's.
        if due > now:
            loop.call_at(due, self._arrive)
        else:
            loop.call_soon(self._arrive)

    def _send_reset(self) -> None:
        if not self._reset_sent:
            self._reset_sent = True
            self._send(_RESET)

    def _arrive(self) -> None:
        """One more item reaches the other end. The oldest: timers of a real loop may come in another order."""
        self._peer._receive(self._under_way.popleft())

    def _receive(self, item: bytes | _Mark) -> None:
        if self._closing:
            self._refuse(item)
        elif item is _RESET and self._protocol is not None:
            self._reset()
        elif self._reading and not self._unread:
            self._take(item)
        else:
            self._unread.append((item, contextvars.copy_context()))

    def _refuse(self, item: bytes | _Mark) -> None:
        """This end does not read any more. Bytes for a socket that is gone are answered by a reset, as in TCP."""
        if item is _RESET:
            self._reset()
        elif len(item):
            if self._losing:
                self._send_reset()
            self._peer._arrived(len(item))

    def _reset(self) -> None:
        if not self._losing:
            self._reset_sent = True  # there is nobody to be told
            self._closing = True
            self._forget_unread()
            self._buffered = 0
            self._lose(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    def _take(self, item: bytes | _Mark) -> None:
        protocol = self._protocol
        assert protocol is not None, "nothing is read before the transport is open"
        try:
            if isinstance(item, bytes):
                protocol.data_received(item)
            elif item is _RESET:
                self._reset()
            elif not protocol.eof_received():
                self.close()
        except Exception as error:
            self._fail(error)
            raise
        if isinstance(item, bytes):
            self._peer._arrived(len(item))

    def _drain_soon(self) -> None:
        if self._unread and not self._drain_due:
            self._drain_due = True
            self._loop.call_soon(self._drain, context=self._unread[0][1])

    def _drain(self) -> None:
        self._drain_due = False
        if self._unread and self._reading:
            item, _ = self._unread.popleft()
            self._drain_soon()
            self._take(item)

    def _forget_unread(self) -> None:
        size = sum(len(item) for item, _ in self._unread)
        self._unread.clear()
        if size:
            self._peer._arrived(size)

    # The writer's buffer.

    def _arrived(self, size: int) -> None:
        """So many bytes of this end have left its buffer."""
        if self._losing:
            return
        self._buffered -= size
        if self._closing:
            if not self._buffered:
                self._lose(None)
        elif self._writing_paused and self._buffered <= self._low:
            self._writing_paused = False
            if self._protocol is not None:
                self._protocol.resume_writing()

    def _pause_writing(self) -> None:
        self._writing_paused = True
        if self._protocol is not None:
            self._protocol.pause_writing()
