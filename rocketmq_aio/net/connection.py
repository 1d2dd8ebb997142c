"""One connection, either end: many requests in flight, one write a tick, deadlines without timers.

*The pending table.* A request is an entry `opaque → (sink, due, tick)`. Replies come in any order and are matched by
`opaque` alone. The sink is a plain `Future` (a warm send) or an object with `settle` and `fail` (whatever needs more).

*One write a tick.* Frames gather in a list; the first one of a turn of the loop schedules the flush. uvloop makes a
system call for every `write`, so that joining is worth more than any codec. All requests of one flush share a `Tick`,
which keeps when they were written: latency counts from there, and what was never written is surely not stored.

*Deadlines* are in the entries; `net/deadlines.py` looks at them. *Two states*: open, from `connection_made` until the
first of `abort` and `connection_lost`; then closed, for good.

This file knows frames and opaques, and nothing of brokers, topics or retries.

Source: `NettyRemotingAbstract.java` (5.3.3) for the matching of answers.
Differs: Java closes the connection of a request that timed out, and with it every other request on it; here it stays.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from itertools import chain
from struct import Struct
from typing import Any, cast

from rocketmq_aio.codes import FLAG_RESPONSE
from rocketmq_aio.errors import (
    ConnectionLostError,
    LocalProtocolError,
    RemoteProtocolError,
    RequestTimeoutError,
    TransportError,
)
from rocketmq_aio.net.deadlines import DeadlineScan, Entry, Tick
from rocketmq_aio.net.sinks import Sink, fail, settle
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand
from rocketmq_aio.wire.incoming import Reply, Request

__all__ = ["Connection"]

OPAQUE_MAX = 0x7FFF_FFFF
#: From this size on a body is written apart: copying it into the joined write costs more than another system call.
LARGE_BODY = 64 * 1024
#: Bytes of answers that gather for one write. A small burst of requests can ask for gigabytes.
OUT_BYTES_MAX = 1024 * 1024

_pack_lengths = Struct(">II").pack


class Connection(asyncio.Protocol):
    """One connection of the remoting protocol, the same class at both ends.

    Args:
        name: what error texts call the peer, such as ``broker-a at 127.0.0.1:10911``.
        address: `host:port` of the peer, for errors' attributes.
        monotonic: tells the time, in seconds.
        decode: makes one value of a frame: `decode_reply` where mostly answers come, `decode_request` where mostly
            requests do.
        on_request: takes what the peer asks. None: requests are dropped.
        on_lost: told once, when the connection is gone; with the error, or None if this side closed it.
        pause_reading: stop reading while the peer does not take what is written. For servers, where a slow reader would
            otherwise fill the memory; a client that did so could lock up against such a server.
    """

    def __init__(
        self,
        *,
        name: str,
        monotonic: Callable[[], float],
        decode: Callable[[int, bytes, bytes], Reply | Request],
        address: str = "",
        on_request: Callable[[Connection, Reply | Request], None] | None = None,
        on_lost: Callable[[Connection, TransportError | None], None] | None = None,
        pause_reading: bool = False,
    ) -> None:
        self.name = name
        self.address = address
        self.writable = False
        self.closed = False
        self.last_activity = 0.0  # the last read or write
        self.last_read = 0.0
        self.late_answers = 0
        self.peer: tuple[str, int] = ("", 0)
        self.local: tuple[str, int] = ("", 0)
        self._monotonic = monotonic
        self._decode = decode
        self._on_request = on_request
        self._on_lost = on_lost
        self._pause_reading = pause_reading
        self._reader = FrameReader()
        self._pending: dict[int, Entry] = {}
        self._opaque = 1
        self._reads = 0
        self._out: list[bytes] = []
        self._reading = False  # a chunk is being dealt with; its end flushes what was answered
        self._out_bytes = 0  # of frames from `write`
        self._held: Iterator[tuple[int, bytes, bytes]] | None = None  # arrived, and not dealt with while it is full
        self._has_large = False
        self._tick = Tick()
        self._scan = DeadlineScan(self._pending, monotonic, lambda: self._reads, self._time_out)
        self._drain_waiters: dict[asyncio.Future[None], None] = {}  # in order
        self._failure: TransportError | None = None
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._loop: asyncio.AbstractEventLoop = cast(asyncio.AbstractEventLoop, None)
        self._lost: asyncio.Future[None] | None = None

    # --- asking

    def request(self, template: bytes, fields: tuple[Any, ...], body: bytes, due: float) -> asyncio.Future[Reply]:
        """Send a request whose header is prepared but for some fields; the warm path of a send.

        Args:
            template: the JSON header with a place for each of `fields`, then one for the opaque.
            fields: what goes into the template.
            body: the body.
            due: the deadline, in seconds of `monotonic`.

        Returns:
            A future of the reply, of whatever code. It fails with a `ConnectionLostError` or `RequestTimeoutError`.

        Raises:
            ConnectionLostError: the connection is gone already; nothing was sent.
        """
        pending = self._pending
        opaque = self._opaque
        while opaque in pending:
            opaque = (opaque + 1) & OPAQUE_MAX
        self._opaque = (opaque + 1) & OPAQUE_MAX
        out = self._out
        loop = self._loop
        if not out:  # `_schedule_flush`, without the cost of a call
            if self.closed:
                self._check_open()
            loop.call_soon(self.flush)
        header = template % (fields + (opaque,))  # noqa: RUF005 (unpacking takes a fifth longer)
        size = len(header)
        body_size = len(body)
        # Three pieces: the flush joins them anyway, and once is enough.
        out += (_pack_lengths(4 + size + body_size, size), header, body)
        if body_size >= LARGE_BODY:
            self._has_large = True
        future: asyncio.Future[Reply] = loop.create_future()
        if not pending and self._scan.handle is None:
            self._scan.arm(loop)
        pending[opaque] = (future, due, self._tick)
        return future

    def call(self, command: RemotingCommand, due: float) -> asyncio.Future[Reply]:
        """Send `command`; like `request`, for what has no prepared header."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        self.submit(command, due, future)
        return future

    def submit(self, command: RemotingCommand, due: float, sink: Sink | asyncio.Future[Reply]) -> None:
        """Send `command`, whose opaque is set here, and give its answer to `sink`.

        Raises:
            ConnectionLostError: the connection is gone already; nothing was sent.
            LocalProtocolError: the command cannot be encoded, or is too large for a frame; nothing was sent.
        """
        self._check_open()
        command.opaque = self._next_opaque()
        self._append(command.encode())
        self._pending[command.opaque] = (sink, due, self._tick)
        self._scan.arm(self._loop)

    def post(self, template: bytes, fields: tuple[Any, ...], body: bytes) -> asyncio.Future[None]:
        """Send a one-way request with a prepared header.

        Returns:
            A future that is done once the frame is written, and fails if the connection is lost before.
        """
        self._check_open()
        header = template % (*fields, self._next_opaque())
        self._append(_pack_lengths(4 + len(header) + len(body), len(header)) + header + body)
        written: asyncio.Future[None] = self._loop.create_future()
        if self._tick.waiting is None:
            self._tick.waiting = []
        self._tick.waiting.append(written)
        return written

    def write(self, frame: bytes) -> None:
        """Write a whole frame at the end of this tick. On a closed connection it is dropped: nobody waits for it.

        A server's answers leave with the chunk of requests that they answer, which saves a turn of the loop.

        Much is written at once instead, so that a peer that does not read is noticed before more is made for it.
        """
        if not self.closed:
            if not self._out and not (self._reading and self._pause_reading):
                self._schedule_flush()
            self._out.append(frame)
            self._out_bytes += len(frame)
            if self._out_bytes > OUT_BYTES_MAX:
                self.flush()

    @property
    def loop_stalls(self) -> int:
        """How often the event loop was found to have been blocked."""
        return self._scan.stalls

    @property
    def pending_count(self) -> int:
        """Requests without an answer yet, abandoned ones included until their deadline."""
        return len(self._pending)

    def _next_opaque(self) -> int:
        opaque = self._opaque
        while opaque in self._pending:
            opaque = (opaque + 1) & OPAQUE_MAX
        self._opaque = (opaque + 1) & OPAQUE_MAX
        return opaque

    def _append(self, frame: bytes) -> None:
        if not self._out:
            self._schedule_flush()
        self._out.append(frame)

    def _check_open(self) -> None:
        if self.closed:
            raise ConnectionLostError(
                f"The connection to {self.name} is closed; nothing was sent.", address=self.address
            ) from self._failure

    def _schedule_flush(self) -> None:
        if self.closed:
            self._check_open()
        self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what has gathered now, and not at the end of this turn."""
        out = self._out
        if self.closed or not out:
            return
        tick = self._tick
        self._tick = Tick()
        self._out_bytes = 0
        tick.flushed_at = self.last_activity = self._monotonic()
        if self._has_large:
            self._write_large(out)
        else:
            self._transport.write(b"".join(out))
        out.clear()
        if tick.waiting is not None:
            for written in tick.waiting:
                settle(written, None)

    def _write_large(self, out: list[bytes]) -> None:
        self._has_large = False
        small: list[bytes] = []
        for piece in out:
            if len(piece) < LARGE_BODY:
                small.append(piece)
                continue
            if small:
                self._transport.write(b"".join(small))
                small.clear()
            self._transport.write(piece)
        if small:
            self._transport.write(b"".join(small))

    # --- hearing

    def data_received(self, data: bytes) -> None:
        """Split, decode, match; called by the transport."""
        now = self.last_read = self.last_activity = self._monotonic()
        self._reads += 1
        reader = self._reader
        pending = self._pending
        decode = self._decode
        tick: Tick | None = None
        latency = 0.0
        frames = iter(reader.feed(data))
        if self._held is not None:
            frames, self._held = chain(self._held, frames), None
            if not self.writable:  # a chunk that was under way when reading was paused
                self._held = frames
                return
        self._reading = True
        try:
            for serialize_type, header, body in frames:
                try:
                    incoming = decode(serialize_type, header, body)
                except LocalProtocolError as error:
                    self._refuse(error)
                    return
                if not incoming.flag & FLAG_RESPONSE:
                    if self._on_request is not None:
                        self._on_request(self, incoming)
                    if self.closed:
                        return
                    if self._pause_reading and not self.writable:
                        self._held = frames
                        return
                    continue
                entry = pending.pop(incoming.opaque, None)
                if entry is None:
                    self.late_answers += 1
                    continue
                sink = entry[0]
                if entry[2] is not tick:  # most answers of a read are to requests of one flush
                    tick = entry[2]
                    latency = now - tick.flushed_at
                incoming.latency = latency
                incoming.received_at = now
                if type(sink) is asyncio.Future:
                    # A cancelled task has cancelled its future before the answer came.
                    if sink.done():
                        self.late_answers += 1
                    else:
                        sink.set_result(incoming)
                else:
                    sink.settle(incoming)
                    if self.closed:
                        return
            if reader.error is not None:
                self._refuse(reader.error, data)
        finally:
            self._reading = False
            if self._out and self._pause_reading:  # a server: all answers to this chunk in one write
                self.flush()

    def _refuse(self, error: LocalProtocolError, data: bytes = b"") -> None:
        """The peer does not speak the protocol: its connection dies, and nothing else."""
        guess = ""
        if data.startswith(b"HTTP/"):
            guess = " It answers in HTTP: look at the address and the port."
        elif data.startswith(b"\x15\x03"):
            guess = " It answers in TLS, which this client does not speak yet."
        remote = RemoteProtocolError(
            f"{self.name} sent bytes that are not the remoting protocol: {error}{guess}", address=self.address
        )
        remote.__cause__ = error
        self.abort(remote)

    def _time_out(self, entry: Entry) -> None:
        sink = entry[0]
        if type(sink) is asyncio.Future and sink.done():
            return
        # Also of a request that is still to be written: the flush at the end of this turn can no longer be told.
        waited = f"within {entry[1] - entry[2].flushed_at:.3g} s" if entry[2].flushed_at else "in time"
        error = RequestTimeoutError(f"{self.name} did not answer {waited}.", address=self.address, maybe_stored=True)
        fail(sink, error)

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport."""
        if self.closed:  # aborted before it was open
            cast(asyncio.Transport, transport).abort()
            return
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._lost = self._loop.create_future()
        self.peer = _address(transport.get_extra_info("peername"))
        self.local = _address(transport.get_extra_info("sockname"))
        self.writable = True
        self.last_read = self.last_activity = self._monotonic()

    def pause_writing(self) -> None:
        """Called by the transport when its buffer is full."""
        self.writable = False
        if self._pause_reading and not self.closed:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Called by the transport when its buffer has drained."""
        if self.closed:
            return
        self.writable = True
        if self._held is not None:
            self.data_received(b"")
        if self._pause_reading and self.writable:
            self._transport.resume_reading()
        self._wake_drain_waiters()

    async def drained(self) -> None:
        """Wait until the socket takes bytes again, or the connection is lost. Safe to cancel."""
        while not self.writable and not self.closed:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._drain_waiters[waiter] = None
            try:
                await waiter
            finally:
                self._drain_waiters.pop(waiter, None)

    def _wake_drain_waiters(self) -> None:
        waiters, self._drain_waiters = self._drain_waiters, {}
        for waiter in waiters:
            settle(waiter, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport, once."""
        if not self.closed:
            words = f" ({exc})" if exc is not None and str(exc) else ""
            self._failure = ConnectionLostError(
                f"{self.name} closed the connection{words}.", address=self.address
            )
            self._failure.__cause__ = exc
            self._close()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def abort(self, error: TransportError | None = None) -> None:
        """Close at once, fail what is pending. Idempotent; also with the loop stopped or closed.

        Args:
            error: why, if it is the peer's fault.
        """
        if self.closed:
            return
        self._failure = error
        self._close()
        if self._transport is not None:
            try:
                self._transport.abort()
            except RuntimeError:  # the loop is closed and closes nothing any more; the peer must not wait for it
                _shut_down(self._transport.get_extra_info("socket"))

    def _close(self) -> None:
        self.closed = True
        self.writable = False
        self._out.clear()
        self._held = None
        self._scan.stop()
        entries = list(self._pending.values())
        self._pending.clear()
        unwritten = self._tick
        for sink, _, tick in entries:
            fail(sink, self._lost_error(written=tick.flushed_at > 0))
        for written in unwritten.waiting or ():
            fail(written, self._lost_error(written=False))
        self._wake_drain_waiters()
        if self._on_lost is not None:
            self._on_lost(self, self._failure)

    def _lost_error(self, *, written: bool) -> TransportError:
        """A new error for one request: errors are raised, and must not share a traceback."""
        if self._failure is None:
            words = f"The connection to {self.name} was closed."
            error: TransportError = ConnectionLostError(words, address=self.address)
        else:
            error = cast(TransportError, self._failure.again())
        error.maybe_stored = written
        return error

    @property
    def transport_gone(self) -> bool:
        """True once the socket is closed."""
        return self._lost is None or self._lost.done()

    async def wait_lost(self) -> None:
        """Wait until the transport is gone. Safe to cancel."""
        if self._lost is not None:
            await asyncio.shield(self._lost)


def _shut_down(sock: Any) -> None:
    try:
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # closed, or not connected any more
        pass


def _address(name: object) -> tuple[str, int]:
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    return "", 0

