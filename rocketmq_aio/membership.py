"""Being known to brokers: heartbeats, and leaving.

A broker forgets a client that it has not heard of for 120 s, and a client that asks for something before its heartbeat
is a stranger. So a heartbeat goes out at once on each new connection, and every 30 s on those that stand.

This file knows connections and groups, and nothing of messages.

Source: `MQClientInstance.sendHeartbeatToAllBroker`, `unregisterClient` (5.3.3).
Differs: only brokers to which there is a connection are told; Java connects to every master of every route for it.
"""

from __future__ import annotations

import logging

from rocketmq_aio.codes import RequestCode, ResponseCode, code_name
from rocketmq_aio.config import ClientConfig
from rocketmq_aio.environment import Environment
from rocketmq_aio.errors import ConnectionLostError, RocketMQError, broker_error
from rocketmq_aio.lanes import LaneTable
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.net.pool import Pool
from rocketmq_aio.wire.bodies import HeartbeatData, ProducerData, encode_json
from rocketmq_aio.wire.frame import RemotingCommand
from rocketmq_aio.wire.headers import UnregisterClientRequestHeader, encode_fields
from rocketmq_aio.wire.incoming import Reply

__all__ = ["Membership"]

logger = logging.getLogger("rocketmq_aio")

#: Seconds that a heartbeat may take (Java: `mqClientApiTimeout`, 3,000 ms).
HEARTBEAT_TIMEOUT = 3.0
#: Seconds of silence after which a connection is dead. Brokers have the same patience with clients.
SILENCE_MAX = 120.0
#: Seconds that all brokers together have to confirm that a client left. A broker that does not notices by the socket.
LEAVE_TIMEOUT = 1.0


class HeartbeatSink:
    """Takes the answer to a heartbeat that nobody waits for."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def settle(self, reply: Reply) -> None:
        """The broker answered."""
        if reply.code != ResponseCode.SUCCESS:
            logger.warning("%s refused a heartbeat: code %d %s", self._connection.name, reply.code, reply.remark)

    def fail(self, error: RocketMQError) -> None:
        """The broker did not answer, or the connection is gone."""
        logger.debug("heartbeat to %s: %s", self._connection.name, error)


class Membership:
    """One client's registrations at its brokers.

    Args:
        group: the producer group.
        config: instance and unit name.
        pool: the connections.
        table: which addresses belong to brokers.
        environment: clock, dice, and the identity of the process.
    """

    def __init__(
        self, group: str, config: ClientConfig, pool: Pool, table: LaneTable, environment: Environment
    ) -> None:
        identity = environment.identity()
        instance = config.instance or f"{identity.pid}#{environment.entropy('client id').getrandbits(48):012x}"
        self.client_id = f"{identity.host}@{instance}" + (f"@{config.unit}" if config.unit else "")
        self._group = group
        self._pool = pool
        self._table = table
        self._monotonic = environment.clock.monotonic
        self._body = encode_json(HeartbeatData(client_id=self.client_id, producer_data_set=[ProducerData(group)]))

    def connected(self, addr: str, connection: Connection) -> None:
        """A connection is new: make this client known on it, without waiting for the answer."""
        if any(broker.addr == addr for broker in self._table.brokers.values()):
            connection.submit(self._heartbeat(), self._monotonic() + HEARTBEAT_TIMEOUT, HeartbeatSink(connection))

    async def beat(self) -> None:
        """Send a heartbeat on each broker connection that stands. Answers are not waited for.

        A connection on which nothing came for so long is dead, whatever the kernel still believes of it (a host that
        lost its power, a router that forgot it): it is cut, so that the next send makes a new one.
        """
        now = self._monotonic()
        for _, connection in self._broker_connections():
            if now - connection.last_read > SILENCE_MAX:
                words = f"{connection.name} answered nothing, not even heartbeats, for {SILENCE_MAX:g} s."
                connection.abort(ConnectionLostError(words, address=connection.address))
                continue
            connection.submit(self._heartbeat(), self._monotonic() + HEARTBEAT_TIMEOUT, HeartbeatSink(connection))

    async def ping(self, due: float) -> None:
        """Send a heartbeat to each broker of the topics in use, connecting if need be, and wait for the answers.

        Raises:
            TransportError, RequestTimeoutError, BrokerError: what came instead.
        """
        for broker in list(self._table.brokers.values()):
            connection = await self._pool.connect(broker.addr, broker.name)
            try:
                reply = await connection.call(self._heartbeat(), due)
            except RocketMQError as error:
                error.maybe_stored = False  # it was no message
                raise
            if reply.code != ResponseCode.SUCCESS:
                raise broker_error(
                    reply.code, reply.remark, address=broker.addr, name=code_name(ResponseCode, reply.code),
                    request=RequestCode.HEART_BEAT.name,
                )

    async def leave(self, seconds: float) -> None:
        """Tell the brokers that this client goes, and wait a moment for their answers. Safe to cancel.

        Args:
            seconds: how long to wait for them at most, besides LEAVE_TIMEOUT.
        """
        due = self._monotonic() + min(seconds, LEAVE_TIMEOUT)
        answers = []
        for _, connection in self._broker_connections():
            fields = encode_fields(UnregisterClientRequestHeader(client_id=self.client_id, producer_group=self._group))
            command = RemotingCommand(code=RequestCode.UNREGISTER_CLIENT, ext_fields=fields)
            answers.append(connection.call(command, due))
        for answer in answers:
            try:
                await answer
            except RocketMQError as error:
                logger.debug("leaving: %s", error)

    def _broker_connections(self) -> list[tuple[str, Connection]]:
        addrs = {broker.addr: None for broker in self._table.brokers.values()}
        found = ((addr, self._pool.get(addr)) for addr in addrs)
        return [(addr, connection) for addr, connection in found if connection is not None]

    def _heartbeat(self) -> RemotingCommand:
        return RemotingCommand(code=RequestCode.HEART_BEAT, ext_fields={}, body=self._body)
