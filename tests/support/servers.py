"""Servers that misbehave, built from the wire alone: no simulator is needed to be silent or to talk nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rocketmq_aio.codes import FLAG_RESPONSE, RequestCode, ResponseCode
from rocketmq_aio.environment import Environment
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.wire.bodies import BrokerData, QueueData, TopicRouteData, encode_json
from rocketmq_aio.wire.frame import RemotingCommand
from rocketmq_aio.wire.incoming import decode_request

Handler = Callable[[Connection, Any], None]


class Server:
    """Listens, and gives every request to a handler. Use with `async with`."""

    def __init__(self, environment: Environment, handler: Handler) -> None:
        self.requests: list[Any] = []
        self.connections: list[Connection] = []
        self._environment = environment
        self._handler = handler

    async def __aenter__(self) -> Server:
        """Listen on a free port."""
        self._listener = await self._environment.network.listen(self._make, "127.0.0.1", 0)
        self.addr = f"127.0.0.1:{self._listener.port}"
        return self

    def _make(self) -> Connection:
        connection = Connection(
            name="client", monotonic=self._environment.clock.monotonic, decode=decode_request, on_request=self._take
        )
        self.connections.append(connection)
        return connection

    def _take(self, connection: Connection, request: Any) -> None:
        self.requests.append(request)
        self._handler(connection, request)

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and cut all connections."""
        self._listener.close()
        for connection in self.connections:
            connection.abort()
        for connection in self.connections:
            await connection.wait_lost()


def reply(connection: Connection, request: Any, code: int = 0, fields: dict[str, str] | None = None,
          body: bytes = b"", remark: str | None = None) -> None:
    """Answer a request."""
    connection.write(
        RemotingCommand(
            code=code, opaque=request.opaque, flag=FLAG_RESPONSE, ext_fields=fields, body=body, remark=remark
        ).encode()
    )


def name_server(brokers: dict[str, str], topics: dict[str, int], perm: int = 6) -> Handler:
    """A handler that knows these brokers (name → address) and topics (name → queues at each broker)."""

    def handle(connection: Connection, request: Any) -> None:
        if request.code != RequestCode.GET_ROUTEINFO_BY_TOPIC:
            return
        topic = request.command().ext_fields["topic"]
        if topic not in topics:
            reply(connection, request, ResponseCode.TOPIC_NOT_EXIST, remark="No topic route info")
            return
        reply(connection, request, body=route_body(brokers, topics[topic], perm))

    return handle


def route_body(brokers: dict[str, str], queues: int, perm: int = 6) -> bytes:
    """The body of an answer to a route request."""
    return encode_json(
        TopicRouteData(
            broker_datas=[BrokerData(cluster="C", broker_name=name, broker_addrs={0: addr})
                          for name, addr in brokers.items()],
            queue_datas=[QueueData(broker_name=name, read_queue_nums=queues, write_queue_nums=queues, perm=perm,
                                   topic_sys_flag=0) for name in brokers],
        )
    )


def broker(queue_offset: int = 0) -> Handler:
    """A handler that acknowledges sends (and everything else) without storing anything."""
    count = queue_offset

    def handle(connection: Connection, request: Any) -> None:
        nonlocal count
        if request.is_oneway:
            return
        if request.code == RequestCode.SEND_MESSAGE_V2:
            queue_id = request.command().ext_fields["e"]
            reply(connection, request,
                  fields={"msgId": "00" * 16, "queueId": queue_id, "queueOffset": str(count)})
            count += 1
        else:
            reply(connection, request, fields={})

    return handle


def silent(connection: Connection, request: Any) -> None:
    """A handler that never answers."""


class Babbler:
    """Answers whatever contains `when` with the same bytes. Use with `async with`; `addr` is where it listens."""

    def __init__(self, environment: Environment, answer: bytes, when: bytes = b"") -> None:
        self._environment = environment
        self._answer = answer
        self._when = when
        self._transports: list[Any] = []

    async def __aenter__(self) -> Babbler:
        """Listen on a free port."""
        self._listener = await self._environment.network.listen(lambda: _Babble(self), "127.0.0.1", 0)
        self.addr = f"127.0.0.1:{self._listener.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and cut all connections."""
        self._listener.close()
        for transport in self._transports:
            transport.abort()


class _Babble(asyncio.Protocol):
    def __init__(self, babbler: Babbler) -> None:
        self._babbler = babbler

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._babbler._transports.append(transport)

    def data_received(self, data: bytes) -> None:
        if self._babbler._when in data:
            self._transport.write(self._babbler._answer)
