"""The other end of a measurement: an echo, a bare server and a simulated cluster, in this loop or in their own process.

`Servers` has them in the loop that runs. `ServerProcess` starts a process with its own `Servers`, and passes the same
calls on; so that what is measured on one loop and between two processes is the same program.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import traceback
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection as Pipe
from types import TracebackType
from typing import Any, Protocol, Self

from benchmarks.bare import BareServer
from benchmarks.echo import EchoServer
from benchmarks.machine import run
from benchmarks.verify import Stored, stored_of
from broker_sim import Cluster
from rocketmq_aio.wire.stored import decode_stored

__all__ = ["HOST", "ServerError", "ServerProcess", "Servers", "ServersLike"]

HOST = "127.0.0.1"
STOP_TIMEOUT = 10.0


class ServerError(Exception):
    """The process of the servers failed; the text is its traceback."""


class ServersLike(Protocol):
    """What both kinds can do."""

    #: True if the servers' processor time is that of this process.
    shared: bool

    async def open_echo(self, reply: bytes) -> int:
        """Start an echo server that answers with `reply`. Returns its port."""

    async def open_bare(self, queues: int) -> int:
        """Start a bare server, or empty the one that runs. Returns its port."""

    async def bare_bodies(self) -> list[list[bytes]]:
        """The bodies that the bare server stored, by queue and offset."""

    async def open_cluster(self, brokers: int, topics: dict[str, int]) -> str:
        """Start a new cluster. Returns its name servers' addresses."""

    async def close_cluster(self) -> None:
        """Stop it, and forget what it stored."""

    async def stored(self, topic: str) -> list[Stored]:
        """Everything that it stored of a topic."""

    async def cpu(self) -> float:
        """Seconds of processor time that the servers' process has used."""


class Servers:
    """Servers in the running loop. Use it with `async with`."""

    shared = True

    def __init__(self) -> None:
        self._cluster: Cluster | None = None
        self._cluster_stack = AsyncExitStack()
        self._echo: asyncio.Server | None = None
        self._bare: asyncio.Server | None = None
        self._bare_logs: list[list[bytes]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close_cluster()
        for server in (self._echo, self._bare):
            if server is not None:
                server.close()
                await server.wait_closed()

    async def open_echo(self, reply: bytes) -> int:
        """See `ServersLike`."""
        assert self._echo is None
        self._echo = await asyncio.get_running_loop().create_server(lambda: EchoServer(reply), HOST, 0)
        port: int = self._echo.sockets[0].getsockname()[1]
        return port

    async def open_bare(self, queues: int) -> int:
        """See `ServersLike`."""
        self._bare_logs[:] = [[] for _ in range(queues)]
        if self._bare is None:
            loop = asyncio.get_running_loop()
            self._bare = await loop.create_server(lambda: BareServer(self._bare_logs), HOST, 0)
        port: int = self._bare.sockets[0].getsockname()[1]
        return port

    async def bare_bodies(self) -> list[list[bytes]]:
        """See `ServersLike`."""
        return [[decode_stored(record)[0].body for record in log] for log in self._bare_logs]

    async def open_cluster(self, brokers: int, topics: dict[str, int]) -> str:
        """See `ServersLike`."""
        assert self._cluster is None
        self._cluster = await self._cluster_stack.enter_async_context(Cluster(brokers=brokers, topics=topics))
        return self._cluster.namesrv

    async def close_cluster(self) -> None:
        """See `ServersLike`."""
        self._cluster = None
        await self._cluster_stack.aclose()

    async def stored(self, topic: str) -> list[Stored]:
        """See `ServersLike`."""
        assert self._cluster is not None
        return stored_of(self._cluster.messages(topic))

    async def cpu(self) -> float:
        """See `ServersLike`."""
        return time.process_time()


class ServerProcess:
    """Servers in a process of their own. Use it with `with`; leaving ends the process.

    Its methods wait for the process and hold the loop meanwhile: they are called between measurements.
    """

    shared = False

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name="servers", daemon=True)
        self._process.start()
        theirs.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pipe.close()  # the process ends when it reads the end of the pipe
        self._process.join(STOP_TIMEOUT)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, method: str, *args: object) -> Any:
        try:
            self._pipe.send((method, args))
            failure, result = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise ServerError(f"The process of the servers ended in {method}.") from error
        if failure:
            raise ServerError(failure)
        return result

    async def open_echo(self, reply: bytes) -> int:
        """See `ServersLike`."""
        port: int = self._ask("open_echo", reply)
        return port

    async def open_bare(self, queues: int) -> int:
        """See `ServersLike`."""
        port: int = self._ask("open_bare", queues)
        return port

    async def bare_bodies(self) -> list[list[bytes]]:
        """See `ServersLike`."""
        bodies: list[list[bytes]] = self._ask("bare_bodies")
        return bodies

    async def open_cluster(self, brokers: int, topics: dict[str, int]) -> str:
        """See `ServersLike`."""
        namesrv: str = self._ask("open_cluster", brokers, topics)
        return namesrv

    async def close_cluster(self) -> None:
        """See `ServersLike`."""
        self._ask("close_cluster")

    async def stored(self, topic: str) -> list[Stored]:
        """See `ServersLike`."""
        stored: list[Stored] = self._ask("stored", topic)
        return stored

    async def cpu(self) -> float:
        """See `ServersLike`."""
        seconds: float = self._ask("cpu")
        return seconds


def _serve(pipe: Pipe) -> None:
    """The process: answer calls until the pipe ends."""
    try:
        run(_answer(pipe))
    except KeyboardInterrupt:  # the terminal tells both processes; the parent says what is to be said
        pass


async def _answer(pipe: Pipe) -> None:
    loop = asyncio.get_running_loop()
    async with Servers() as servers:
        while True:
            try:
                method, args = await loop.run_in_executor(None, pipe.recv)
            except EOFError:
                return
            try:
                answer = ("", await getattr(servers, method)(*args))
            except Exception:  # whatever it is, the parent has to know
                answer = (traceback.format_exc(), None)
            pipe.send(answer)
