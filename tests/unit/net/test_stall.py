"""A stalled loop on real sockets: what the kernel holds is read before anything expires, on every loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from rocketmq_aio.net import deadlines
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.wire.incoming import Reply, decode_reply
from tests.unit.net.fakes import TEMPLATE, reply_frame

try:
    import uvloop
except ImportError:  # not on Windows
    uvloop = None

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.SelectorEventLoop}
if uvloop is not None:
    LOOPS["uvloop"] = uvloop.new_event_loop

REQUESTS = 64


@pytest.mark.parametrize("loop_name", LOOPS)
def test_answers_in_the_kernel_win_over_passed_deadlines(loop_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asyncio reads one piece of a connection in a turn and then runs due timers; uvloop runs them before it reads."""
    monkeypatch.setattr(deadlines, "INTERVAL", 0.0)  # a look in every turn: no waiting, whatever the machine
    loop = LOOPS[loop_name]()
    jumped = 0.0

    def now() -> float:
        return loop.time() + jumped

    async def main() -> None:
        nonlocal jumped
        with socket.create_server(("127.0.0.1", 0)) as listening:
            connection = Connection(name="peer", monotonic=now, decode=decode_reply)
            transport, _ = await loop.create_connection(lambda: connection, *listening.getsockname())
            peer, _ = listening.accept()
        if hasattr(transport, "max_size"):
            transport.max_size = 1024  # as if asyncio's 256 KiB were less than what lies in the socket
        futures: list[asyncio.Future[Reply]] = [
            connection.request(TEMPLATE, (), b"", now() + 60) for _ in range(REQUESTS)
        ]
        with peer:
            await asyncio.sleep(0)
            peer.sendall(b"".join(reply_frame(opaque, body=bytes(900)) for opaque in range(1, REQUESTS)))
            jumped += 100
            await asyncio.wait(futures)
            connection.abort()
            await connection.wait_lost()
        outcomes = [type(future.exception()).__name__ for future in futures]
        assert outcomes == ["NoneType"] * (REQUESTS - 1) + ["RequestTimeoutError"]
        assert connection.loop_stalls == 1

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
