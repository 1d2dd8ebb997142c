"""A client that sends commands as they are and reads what comes back: for tests of servers, on any network and loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rocketmq_aio.environment import Environment
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand

__all__ = ["RawClient"]


class RawClient(asyncio.Protocol):
    """One connection, open under `async with`.

    Args:
        environment: its network is used.
        address: `host:port`.
    """

    def __init__(self, environment: Environment, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._environment = environment
        self._target = host.strip("[]"), int(port)
        self._reader = FrameReader()
        self._opaque = 0
        self._waiting: dict[int, asyncio.Future[RemotingCommand]] = {}
        self.received: list[RemotingCommand] = []
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    async def __aenter__(self) -> Self:
        await self._environment.network.connect(lambda: self, *self._target)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.transport.abort()
        await self.lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # not every loop's transport is an asyncio.Transport

    def data_received(self, data: bytes) -> None:
        for serialize_type, header, body in self._reader.feed(data):
            command = RemotingCommand.decode(serialize_type, header, body)
            self.received.append(command)
            waiting = self._waiting.pop(command.opaque, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(command)
        assert self._reader.error is None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError("the server closed the connection"))

    def post(self, code: int, fields: Mapping[str, object] | None = None, body: bytes = b"", *, flag: int = 2) -> None:
        """Send a request whose answer, if there is one, only lands in `received`."""
        self._opaque += 1
        self.transport.write(_command(code, self._opaque, flag, fields, body, 479).encode())

    async def call(
        self, code: int, fields: Mapping[str, object] | None = None, body: bytes = b"", *, version: int = 479,
        serialize_type: int = 0,
    ) -> RemotingCommand:  # fmt: skip
        """Send a request and wait for its answer."""
        self._opaque += 1
        command = _command(code, self._opaque, 0, fields, body, version)
        command.serialize_type = serialize_type
        return await self.exchange(command.encode(), self._opaque)

    async def exchange(self, frame: bytes, opaque: int) -> RemotingCommand:
        """Send a frame as it is and wait for the answer with its number."""
        future = self._waiting[opaque] = asyncio.get_running_loop().create_future()
        self.transport.write(frame)
        return await future


def _command(
    code: int, opaque: int, flag: int, fields: Mapping[str, object] | None, body: bytes, version: int
) -> RemotingCommand:
    texts = None if fields is None else {name: str(value) for name, value in fields.items() if value is not None}
    return RemotingCommand(code, opaque, flag, version=version, ext_fields=texts, body=body)
