"""Keeps one broker registered with one name server, over one connection.

The whole table goes out at the start, ten seconds later, and then every thirty seconds; a topic that is created or
changed goes out at once and alone. Simulated and real name servers are told alike.

Source: `BrokerController.java`, `BrokerOuterAPI.java` (5.3.3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from zlib import crc32

from broker_sim.requests.registry import Registration
from rocketmq_aio.codes import LanguageCode, RequestCode, ResponseCode, code_name
from rocketmq_aio.environment import Environment, housekeeping_context
from rocketmq_aio.errors import ConnectError, RocketMQError, broker_error
from rocketmq_aio.net.addresses import parse_address
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.wire.bodies import RegisterBrokerBody, TopicConfigAndMappingSerializeWrapper, encode_json
from rocketmq_aio.wire.frame import RemotingCommand
from rocketmq_aio.wire.headers import RegisterBrokerRequestHeader, UnRegisterBrokerRequestHeader, encode_fields
from rocketmq_aio.wire.incoming import Reply, decode_reply

__all__ = ["Registrar", "register_command", "unregister_command", "wait_tried"]

logger = logging.getLogger("broker_sim")

FIRST_AGAIN = 10.0
REGISTER_INTERVAL = 30.0
CONNECT_TIMEOUT = 3.0
REPLY_TIMEOUT = 24.0
#: Seconds that a cluster which opens waits for name servers that are not its own.
ELSEWHERE_PATIENCE = 3.0
DEFAULT_PORT = 9876


def register_command(registration: Registration) -> RemotingCommand:
    """REGISTER_BROKER, as a Java broker sends it."""
    wrapper = TopicConfigAndMappingSerializeWrapper(registration.topics, registration.data_version)
    body = encode_json(RegisterBrokerBody(wrapper))
    header = RegisterBrokerRequestHeader(
        broker_name=registration.broker_name, broker_addr=registration.broker_addr,
        cluster_name=registration.cluster_name, ha_server_addr=registration.ha_server_addr,
        broker_id=registration.broker_id, enable_acting_master=registration.enable_acting_master,
        body_crc32=crc32(body) & 0x7FFFFFFF,
    )  # fmt: skip
    fields = encode_fields(header)
    return RemotingCommand(RequestCode.REGISTER_BROKER, language=LanguageCode.JAVA, ext_fields=fields, body=body)


def unregister_command(registration: Registration) -> RemotingCommand:
    """UNREGISTER_BROKER."""
    header = UnRegisterBrokerRequestHeader(
        registration.broker_name, registration.broker_addr, registration.cluster_name, registration.broker_id
    )
    return RemotingCommand(
        RequestCode.UNREGISTER_BROKER, language=LanguageCode.JAVA, ext_fields=encode_fields(header)
    )


class Registrar:
    """The link of one broker to one name server.

    Args:
        address: `host:port` of the name server.
        describe: what the broker says of itself: of all topics (None), or of these.
        environment: clock and network.
        name: the broker's, for logs.
        elsewhere: the name server belongs to somebody else, and may be silent.

    Attributes:
        tried: set when the first attempt since `start` is over, or will not be made.
    """

    def __init__(
        self,
        *,
        address: str,
        describe: Callable[[tuple[str, ...] | None], Registration],
        environment: Environment,
        name: str,
        elsewhere: bool,
    ) -> None:
        self.address = address
        self.name = name
        self.elsewhere = elsewhere
        self.tried = asyncio.Event()
        self._describe = describe
        self._environment = environment
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Register now, over a new connection, and again and again from then on."""
        self.abort()  # a name server that was started anew may not have been seen to close the old one
        # Each keeper has its own event: one that ends late must not speak for the next.
        self.tried = asyncio.Event()
        self._keeper = asyncio.get_running_loop().create_task(
            self._keep(self.tried), name=f"{self.name} registers with {self.address}", context=housekeeping_context()
        )

    def _stop_keeping(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        self.tried.set()  # a task that is cancelled before its first step sets nothing

    async def _keep(self, tried: asyncio.Event) -> None:
        delay = FIRST_AGAIN
        while True:
            try:
                await self._register()
            except RocketMQError as error:
                logger.warning("%s is not registered, and tries again in %g s: %s", self.name, delay, error)
            finally:
                tried.set()
            await asyncio.sleep(delay)
            delay = REGISTER_INTERVAL

    async def _register(self) -> None:
        """Register all topics and wait for the answer.

        Raises:
            TransportError: the name server cannot be reached, or the connection was lost.
            RequestTimeoutError: it does not answer.
            BrokerError: it refuses.
        """
        connection = await self._connect()
        due = self._environment.clock.monotonic() + REPLY_TIMEOUT
        reply = await connection.call(register_command(self._describe(None)), due)
        if reply.code != ResponseCode.SUCCESS:
            raise broker_error(
                reply.code, reply.remark, address=self.address, name=code_name(ResponseCode, reply.code),
                request="REGISTER_BROKER",
            )  # fmt: skip

    async def _connect(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = Connection(
            name=f"name server at {self.address}",
            address=self.address,
            monotonic=self._environment.clock.monotonic,
            decode=decode_reply,
        )
        host, port = parse_address(self.address, DEFAULT_PORT)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._environment.network.connect(lambda: connection, host, port)
        except (OSError, UnicodeError) as error:
            why = str(error) or type(error).__name__
            raise ConnectError(
                f"{self.name} cannot reach the name server at {self.address}: {why}.", address=self.address
            ) from error
        self._connection = connection
        return connection

    def announce(self, topics: tuple[str, ...]) -> None:
        """Tell of topics that were created or changed, without waiting. Not connected: the next registration tells."""
        if self._connection is not None and not self._connection.closed:
            due = self._environment.clock.monotonic() + REPLY_TIMEOUT
            self._connection.submit(register_command(self._describe(topics)), due, _Logged(self.name))

    def leave(self) -> None:
        """Register no more, and tell that the broker leaves. It is written at the end of this turn of the loop."""
        self._stop_keeping()
        if self._connection is not None and not self._connection.closed:
            due = self._environment.clock.monotonic() + REPLY_TIMEOUT
            self._connection.submit(unregister_command(self._describe(())), due, _Logged(self.name))

    def abort(self) -> None:
        """Register no more and close the connection, at once."""
        self._stop_keeping()
        if self._connection is not None:
            self._connection.abort()

    async def wait_closed(self) -> None:
        """Wait, after `abort`, until no task and no socket is left."""
        if self._keeper is not None:
            await asyncio.wait([self._keeper])
        if self._connection is not None:
            await self._connection.wait_lost()


async def wait_tried(registrars: Iterable[Registrar]) -> None:
    """Wait until all have tried to register; for those with name servers elsewhere, three seconds together at most."""
    elsewhere = []
    for registrar in registrars:
        if registrar.elsewhere:
            elsewhere.append(registrar)
        else:
            await registrar.tried.wait()
    try:
        async with asyncio.timeout(ELSEWHERE_PATIENCE if elsewhere else None):
            for registrar in elsewhere:
                await registrar.tried.wait()
    except TimeoutError:
        for registrar in elsewhere:
            if not registrar.tried.is_set():
                logger.warning(
                    "%s is not registered: the name server at %s is silent so far.", registrar.name, registrar.address
                )


class _Logged:
    """Where the answers go that nobody waits for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def settle(self, reply: Reply) -> None:
        """An answer came."""
        if reply.code != ResponseCode.SUCCESS:
            logger.warning("%s: a name server answered with code %d: %s", self._name, reply.code, reply.remark)

    def fail(self, error: RocketMQError) -> None:
        """No answer will come."""
        logger.debug("%s: %s", self._name, error)
