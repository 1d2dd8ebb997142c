"""The reference: a framed echo that does nothing but what every request and answer costs.

The server splits what it reads at the length prefixes and answers each frame with the same bytes, one joined write for
a read. The client has one future for each message and one joined write for a turn of the loop. Neither looks into a
frame. The frames are those of a real send and its answer, recorded once. A client with headers, routes, deadlines and
results can come near to this, and no pure Python client can be faster.
"""

from __future__ import annotations

import asyncio
from collections import deque
from struct import Struct
from typing import cast

__all__ = ["EchoClient", "EchoServer"]

_unpack_length = Struct(">I").unpack_from


class EchoServer(asyncio.Protocol):
    """Answers each frame with `reply`.

    Args:
        reply: a whole frame.
    """

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self._rest = b""
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Count the frames, and write as many answers."""
        if self._rest:
            data = self._rest + data
        position, end, count = 0, len(data), 0
        while end - position >= 4:
            (length,) = _unpack_length(data, position)
            if end - position - 4 < length:
                break
            position += 4 + length
            count += 1
        self._rest = data[position:]
        if count:
            self._transport.write(self._reply * count)


class EchoClient(asyncio.Protocol):
    """Sends frames, each with a future.

    Attributes:
        received: bytes of answers so far.
    """

    def __init__(self) -> None:
        self.received = 0
        self._rest = b""
        self._out: list[bytes] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def request(self, frame: bytes) -> asyncio.Future[None]:
        """Send a frame; the future is done when its answer has come."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(future)
        return future

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        """Wake one waiter for each frame."""
        self.received += len(data)
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        waiting = self._waiting
        while end - position >= 4:
            (length,) = _unpack_length(data, position)
            if end - position - 4 < length:
                break
            position += 4 + length
            waiting.popleft().set_result(None)
        self._rest = data[position:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who still waits: a lost connection is an error of the run, not a hang."""
        for future in self._waiting:
            if not future.done():
                future.set_exception(exc or ConnectionError("The echo server closed the connection."))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()
