"""A connection with nothing behind it: what it writes is kept, what it reads is said by the test."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from broker_sim.worlds.runner import run_virtual
from rocketmq_aio.codes import FLAG_RESPONSE
from rocketmq_aio.errors import RocketMQError, TransportError
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand
from rocketmq_aio.wire.incoming import Reply, decode_reply

NAME = "broker-a at 10.0.0.1:10911"
ADDRESS = "10.0.0.1:10911"
TEMPLATE = b'{"code":310,"flag":0,"opaque":%d}'
ONEWAY_TEMPLATE = b'{"code":310,"flag":2,"opaque":%d}'
#: Seconds between two looks at the deadlines.
SCAN = 0.05


def virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a plain test of a coroutine function; it runs on a virtual loop of its own."""

    @functools.wraps(test)
    def plain(*args: Any, **kwargs: Any) -> None:
        run_virtual(lambda _environment: test(*args, **kwargs))

    return plain


async def turns(count: int) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


class FakeTransport(asyncio.Transport):
    """Keeps what is written and what is called."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.1", 10911), "sockname": ("10.0.0.2", 40000)})
        self.writes: list[bytes] = []
        self.calls: list[str] = []

    def write(self, data: Any) -> None:
        """Keep a write."""
        self.writes.append(bytes(data))

    def abort(self) -> None:
        """Keep the call."""
        self.calls.append("abort")

    def pause_reading(self) -> None:
        """Keep the call."""
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        """Keep the call."""
        self.calls.append("resume_reading")


class World:
    """One open connection on a fake transport, with the running loop's time, which a test can let jump."""

    def __init__(self, **options: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.jumped = 0.0
        self.losses: list[TransportError | None] = []
        self.transport = FakeTransport()
        options.setdefault("decode", decode_reply)
        options.setdefault("on_lost", lambda _connection, error: self.losses.append(error))
        self.connection = Connection(name=NAME, address=ADDRESS, monotonic=self.now, **options)
        self.connection.connection_made(self.transport)

    def now(self) -> float:
        """The monotonic time."""
        return self.loop.time() + self.jumped

    def request(self, due_in: float = 3.0, body: bytes = b"body") -> asyncio.Future[Reply]:
        """A request with a prepared header."""
        return self.connection.request(TEMPLATE, (), body, self.now() + due_in)

    def submit(self, sink: Any, due_in: float = 3.0, body: bytes = b"") -> int:
        """A request for a sink; its opaque."""
        command = RemotingCommand(code=310, body=body)
        self.connection.submit(command, self.now() + due_in, sink)
        return command.opaque

    def sent(self) -> list[RemotingCommand]:
        """The commands of all writes so far."""
        return decode_stream(b"".join(self.transport.writes))

    def answer(self, *opaques: int, code: int = 0) -> None:
        """The peer answers some requests, in one chunk."""
        self.connection.data_received(b"".join(reply_frame(opaque, code=code) for opaque in opaques))

    def timers(self) -> int:
        """Timers of the loop that are still to come."""
        return sum(not handle.cancelled() for handle in self.loop._scheduled)  # type: ignore[attr-defined]


class RecordingSink:
    """A sink that remembers what came, and when."""

    def __init__(self, world: World | None = None) -> None:
        self.replies: list[Reply] = []
        self.errors: list[RocketMQError] = []
        self.times: list[float] = []
        self._world = world

    def settle(self, reply: Reply) -> None:
        """An answer."""
        self.replies.append(reply)
        self._note()

    def fail(self, error: RocketMQError) -> None:
        """No answer."""
        self.errors.append(error)
        self._note()

    def _note(self) -> None:
        if self._world is not None:
            self.times.append(self._world.now())


def reply_frame(opaque: int, *, code: int = 0, body: bytes = b"") -> bytes:
    """The frame of an answer."""
    return RemotingCommand(code=code, opaque=opaque, flag=FLAG_RESPONSE, body=body).encode()


def request_frame(opaque: int, *, code: int = 40, flag: int = 0) -> bytes:
    """The frame of a request of the peer."""
    return RemotingCommand(code=code, opaque=opaque, flag=flag).encode()


def decode_stream(stream: bytes) -> list[RemotingCommand]:
    """All commands of a stream that must be whole."""
    reader = FrameReader()
    commands = [RemotingCommand.decode(*frame) for frame in reader.feed(stream)]
    assert reader.error is None and reader.buffered == 0
    return commands
