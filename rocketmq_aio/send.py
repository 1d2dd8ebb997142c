"""The journey of a message: from `send` to its acknowledgement.

*Warm path.* `send` is one coroutine with one suspension. It looks a lane up, formats the frame, and awaits the answer.
What is rare (a cold route, no connection, no room) is one `return await self._send_slow(...)`.

*Slow path.* It waits for room, route, connection and socket, in that order and within one deadline, then sends the same
bytes on the same lane. A property of the two: they give the same results.

This file knows lanes (`lanes.py`), deadlines and outcomes, and nothing of sockets or name servers.

Source: `DefaultMQProducerImpl.sendDefaultImpl`, `MQClientAPIImpl.processSendResponse` (5.3.3).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NoReturn

from rocketmq_aio.codes import FLAG_ONEWAY, RequestCode, ResponseCode, code_name
from rocketmq_aio.config import ProducerConfig
from rocketmq_aio.environment import Environment
from rocketmq_aio.errors import (
    BrokerError,
    ConnectError,
    MessageError,
    NoWritableQueueError,
    RemoteProtocolError,
    RequestTimeoutError,
    RocketMQError,
    SendConnectionError,
    SendError,
    SendRejectedError,
    SendTimeoutError,
    broker_error,
)
from rocketmq_aio.lanes import Lane, Lanes, LaneTable
from rocketmq_aio.lifecycle import Service, State
from rocketmq_aio.message import Message, MessageQueue, SendAttempt, SendResult, SendStatus
from rocketmq_aio.name_servers import NameServers, RouteTable
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.net.pool import Pool
from rocketmq_aio.observe import SendCounters
from rocketmq_aio.validation import INT32_MAX, INT32_MIN, check_message, seconds_of, user_properties
from rocketmq_aio.window import SendWindow
from rocketmq_aio.wire.ids import UniqueIds
from rocketmq_aio.wire.incoming import Reply
from rocketmq_aio.wire.template import encode_text, plain_template

__all__ = ["SendPath"]

_get_thread = threading.get_ident
_running_loop = asyncio._get_running_loop  # None instead of an error where no loop runs
_STATUSES: Mapping[int, SendStatus] = {int(status): status for status in SendStatus}
_SEND_OK = SendStatus.SEND_OK


class SendPath:
    """What a producer needs to send. `Producer` adds its life to it."""

    _loop: asyncio.AbstractEventLoop | None = None  # only while running: one check covers every wrong state
    # Asking which loop runs is a system call in Python 3.11. The warm path asks whether ours does, and in this thread.
    _is_running: Callable[[], bool] = bool

    def __init__(
        self,
        *,
        service: Service,
        config: ProducerConfig,
        environment: Environment,
        pool: Pool,
        name_servers: NameServers,
        routes: RouteTable,
        table: LaneTable,
        ids: UniqueIds,
    ) -> None:
        self._service = service
        self._config = config
        self._environment = environment
        self._monotonic: Callable[[], float] = environment.clock.monotonic
        self._wall: Callable[[], float] = environment.clock.wall
        self._pool = pool
        self._name_servers = name_servers
        self._routes = routes
        self._table = table
        self._lanes = table.lanes
        self._window = SendWindow(config.window.messages_max, config.window.bytes_max)
        self._timeout = float(config.send_timeout)
        self._bytes_max = min(config.max_message_bytes, config.window.bytes_max)
        self._counters = SendCounters()
        self._latencies = self._counters.latencies
        self._next_id = ids.next_id

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._service.user_thread = _get_thread()
        self._is_running = loop.is_running

    def _unbind(self) -> None:
        self._loop = None
        self._service.user_thread = 0

    async def send(self, message: Message, *, send_timeout: float | timedelta | None = None) -> SendResult:
        """Send a message and wait until a broker has acknowledged it.

        Args:
            message: what to send. It is never changed and may be sent again.
            send_timeout: for all of it, waiting included: seconds or a timedelta (default:
                `ProducerConfig.send_timeout`).

        Returns:
            Where the message is stored. A `status` other than SEND_OK means stored, but not as durably as the broker is
            configured for.

        Raises:
            SendTimeoutError: the deadline passed.
            SendConnectionError: the broker could not be reached, or its connection broke.
            SendRejectedError: the broker refused the message.
            MessageError: the message cannot be sent as it is.
            RouteError: there is no way to its topic.
            StateError: not started, closed, inherited by a fork, or used from another loop.

        Cancelling it while it waits for room, route or connection means that nothing is sent. Later the message may be
        stored: a request that is queued for the socket cannot be called back. `SendError.maybe_stored` says the same of
        errors.
        """
        if type(message) is not Message or _get_thread() != self._service.user_thread or not self._is_running():
            return await self._send_slow(message, send_timeout)
        timeout = self._timeout if send_timeout is None else seconds_of("send_timeout", send_timeout)
        lanes = self._lanes.get(message.topic)
        window = self._window
        body = message.body
        size = len(body)
        if (
            lanes is None
            or lanes.lane is None
            or not 0 < size <= self._bytes_max
            or not INT32_MIN <= message.flag <= INT32_MAX
            or window.messages >= window.limit
            or window.bytes + size > window.bytes_max
        ):
            return await self._send_slow(message, send_timeout)
        lane = lanes.lane
        connection = lane.broker.connection
        template = lane.template
        if connection is None or not connection.writable or not template:
            return await self._send_slow(message, send_timeout)
        lanes.lane = lane.next
        started = self._monotonic()
        wall = self._wall()
        message_id = self._next_id(wall)
        if message.tags or message.keys or message.properties or not message.wait_store_ok:
            text = encode_text(self._properties(message, message_id))
        else:
            template = lane.plain_template
            text = message_id.encode()
        window.messages += 1
        window.bytes += size
        try:
            reply = await connection.request(
                template, (int(wall * 1000), message.flag, text), body, started + timeout
            )
        except RocketMQError as error:
            self._raise(error, lane, message_id, started, started)
        except asyncio.CancelledError:
            self._counters.cancelled_unknown += 1
            raise
        finally:
            window.messages -= 1
            window.bytes -= size
            if window.watched:
                window.admit()
        fields = reply.ext_fields
        queue = lane.queue
        if (
            reply.code
            or fields is None
            or fields.queue_id != queue.queue_id
            or fields.queue_offset is None
            or fields.queue_offset < 0
        ):
            return self._unusual(reply, lane, message_id, started, started)
        self._counters.sent += 1
        self._latencies[int(reply.latency * 1e6).bit_length()] += 1
        return SendResult(
            _SEND_OK,
            message_id,
            fields.msg_id or "",
            queue,
            fields.queue_offset,
            fields.transaction_id or "",
            fields.recall_handle or "",
            fields.msg_region or "DefaultRegion",
            1,
            reply.received_at - started,
        )

    async def send_oneway(self, message: Message) -> None:
        """Send a message without an acknowledgement. It returns once the request is written to the socket.

        Whether a broker stores it nobody learns. For logs and metrics, not for what matters.

        Args:
            message: what to send.

        Raises:
            SendTimeoutError: no room, route or connection within `ProducerConfig.send_timeout`; nothing was sent.
            SendConnectionError: the broker could not be reached.
            MessageError, RouteError, StateError: as `send`.

        Cancelling it while it waits for room, route or connection means that nothing is sent.
        """
        journey = self._begin(message, None)
        size = len(message.body)
        await self._enter(journey, size)
        try:
            connection = await self._find_connection(journey)
            lane = journey.lane
            assert lane is not None
            if not lane.oneway_template:
                lane.oneway_template = self._table.prepare(lane, FLAG_ONEWAY)
            started = self._monotonic()
            try:
                await connection.post(lane.oneway_template, journey.fields(self._wall()), message.body)
            except RocketMQError as error:
                self._raise(error, lane, journey.message_id, journey.started, started)
            except asyncio.CancelledError:
                self._counters.cancelled_unknown += 1
                raise
        finally:
            self._window.leave(size)
        self._counters.sent += 1

    # --- the slow path

    async def _send_slow(self, message: Message, send_timeout: float | timedelta | None) -> SendResult:
        journey = self._begin(message, send_timeout)
        size = len(message.body)
        await self._enter(journey, size)
        try:
            connection = await self._find_connection(journey)
            lane = journey.lane
            assert lane is not None
            if not lane.template:
                lane.template = self._table.prepare(lane, 0)
                lane.plain_template = plain_template(lane.template)
            started = self._monotonic()
            try:
                reply = await connection.request(
                    lane.template, journey.fields(self._wall()), message.body, journey.due
                )
            except RocketMQError as error:
                self._raise(error, lane, journey.message_id, journey.started, started)
            except asyncio.CancelledError:
                self._counters.cancelled_unknown += 1
                raise
        finally:
            self._window.leave(size)
        return self._unusual(reply, lane, journey.message_id, journey.started, started)

    def _begin(self, message: Message, send_timeout: float | timedelta | None) -> Journey:
        """Everything that can be refused at once, and what has to be encoded before the first suspension."""
        if _running_loop() is not self._loop or self._loop is None:
            raise self._service.state_error()
        if not isinstance(message, Message):
            raise TypeError(
                f"send takes a Message, not {type(message).__name__}: send(Message(topic, body))."
            )
        timeout = self._timeout if send_timeout is None else seconds_of("send_timeout", send_timeout)
        try:
            check_message(message, self._config.max_message_bytes)
            if len(message.body) > self._bytes_max:
                raise MessageError(
                    f"The message body has {len(message.body):,} bytes, more than the whole window of "
                    f"{self._window.bytes_max:,} bytes.", hint="Raise ProducerConfig(window=Window(bytes_max=)).",
                )
        except MessageError as error:
            self._counters.fail(error)
            raise
        message_id = self._next_id(self._wall())
        properties = encode_text(self._properties(message, message_id))
        return Journey(message, message_id, properties, self._monotonic(), timeout)

    def _properties(self, message: Message, message_id: str) -> str:
        """The whole property string of a message."""
        wait = "true" if message.wait_store_ok else "false"
        try:
            return f"UNIQ_KEY\x01{message_id}\x02WAIT\x01{wait}\x02{user_properties(message)}"
        except MessageError as error:
            self._counters.fail(error)
            raise

    async def _enter(self, journey: Journey, size: int) -> None:
        """Wait for room."""
        if self._window.try_enter(size):
            return
        try:
            async with asyncio.timeout(journey.due - self._monotonic()):
                await self._window.enter(size)
        except TimeoutError as error:
            self._raise_waited(journey, "for room in the window of messages in flight", error)
        except RocketMQError as error:  # turned away, because the producer closes
            self._counters.fail(error)
            raise

    async def _find_connection(self, journey: Journey) -> Connection:
        """Wait for a route, choose its next lane, wait for the lane's connection and for its socket."""
        topic = journey.message.topic
        lanes = self._lanes.get(topic)
        if lanes is not None and lanes.lane is not None:
            ready = lanes.lane.broker.connection
            if ready is not None and ready.writable:  # nothing to wait for
                journey.lane = lanes.take()
                return ready
        where = f"for the route of topic {topic!r} from {', '.join(self._name_servers.addresses)}"
        try:
            async with asyncio.timeout(max(journey.due - self._monotonic(), 0.0)) as scope:
                lanes = await self._find_lanes(topic)
                lane = journey.lane = lanes.take()
                broker = lane.broker
                started = self._monotonic()
                while True:
                    where = f"for a connection to {broker.name} at {broker.addr}"
                    connection = broker.connection
                    # A slot of a route that was replaced meanwhile is not told of losses: hence the second question.
                    if connection is None or connection.closed:
                        connection = broker.connection = await self._pool.connect(broker.addr, broker.name)
                    where = f"for {connection.name} to take more bytes"
                    await connection.drained()
                    if not connection.closed:
                        return connection
        except TimeoutError as error:
            if not scope.expired():
                raise
            self._raise_waited(journey, where, error)
        except ConnectError as error:
            self._raise(error, lane, journey.message_id, journey.started, started)
        except RocketMQError as error:
            if self._service.state is State.FAILED:  # what cut the wait short was not the user
                raise self._service.state_error() from error
            self._counters.fail(error)
            raise

    async def _find_lanes(self, topic: str) -> Lanes:
        lanes = self._lanes.get(topic)
        if lanes is None or not lanes.count:  # permissions and brokers change: look again before saying no
            await self._routes.refresh(topic)
            lanes = self._lanes[topic]
        if not lanes.count:
            brokers = ", ".join(lanes.route.master_addrs) or "none that has a master"
            raise NoWritableQueueError(
                f"Topic {topic!r} has no writable queue (its brokers: {brokers}).",
                topic=topic, hint="Check the topic's permission, and that the master of a broker is up.",
            )
        return lanes

    # --- outcomes

    def _unusual(
        self, reply: Reply, lane: Lane, message_id: str, called: float, started: float
    ) -> SendResult:
        """The result of a reply, whatever it is; the warm path has a shorter way for the usual one."""
        fields = reply.ext_fields
        status = _STATUSES.get(reply.code)
        address = lane.broker.addr
        if status is None:
            name = code_name(ResponseCode, reply.code)
            rejection = broker_error(
                reply.code, reply.remark, address=address, name=name, request=RequestCode.SEND_MESSAGE_V2.name
            )
            self._raise(rejection, lane, message_id, called, started)
        queue_id, queue_offset = (None, None) if fields is None else (fields.queue_id, fields.queue_offset)
        if fields is None or queue_id is None or queue_offset is None or queue_id < 0 or queue_offset < 0:
            broken = RemoteProtocolError(
                f"{lane.broker.name} at {address} acknowledged without saying where: queue id {queue_id}, offset "
                f"{queue_offset}.", address=address, maybe_stored=True,
            )
            self._raise(broken, lane, message_id, called, started)
        self._counters.sent += 1
        self._latencies[int(reply.latency * 1e6).bit_length()] += 1
        return SendResult(
            status=status,
            message_id=message_id,
            offset_message_id=fields.msg_id or "",
            queue=MessageQueue(lane.queue.topic, lane.queue.broker_name, queue_id),
            queue_offset=queue_offset,
            transaction_id=fields.transaction_id or "",
            recall_handle=fields.recall_handle or "",
            region_id=fields.msg_region or "DefaultRegion",
            attempt_count=1,
            elapsed=reply.received_at - called,
        )

    def _raise(
        self, error: RocketMQError, lane: Lane, message_id: str, called: float, started: float
    ) -> NoReturn:
        """Raise the `SendError` for a failed attempt."""
        now = self._monotonic()
        attempt = SendAttempt(lane.queue, lane.broker.addr, started - called, now - started, error)
        failure = _send_error(attempt, message_id, now - called)
        self._counters.fail(failure)
        raise failure from error

    def _raise_waited(self, journey: Journey, where: str, error: TimeoutError) -> NoReturn:
        """Raise the `SendTimeoutError` of a send that was never attempted."""
        state = self._service.state
        closing = " The producer is closing." if state is not State.RUNNING else ""
        failure = SendTimeoutError(
            f"Message {journey.message_id} to topic {journey.message.topic!r} was not sent: it waited {where} "
            f"until its deadline of {journey.timeout:g} s.{closing}",
            topic=journey.message.topic, message_id=journey.message_id, hint="It is surely not stored.",
        )
        self._counters.fail(failure)
        raise failure from error


class Journey:
    """One send on the slow path: what was encoded, and until when."""

    __slots__ = ("due", "lane", "message", "message_id", "properties", "started", "timeout")

    def __init__(self, message: Message, message_id: str, properties: bytes, started: float, timeout: float) -> None:
        self.message = message
        self.message_id = message_id
        self.properties = properties
        self.started = started
        self.timeout = timeout
        self.due = started + timeout
        self.lane: Lane | None = None

    def fields(self, wall: float) -> tuple[int, int, bytes]:
        """What goes into a lane's template."""
        return int(wall * 1000), self.message.flag, self.properties


def _send_error(attempt: SendAttempt, message_id: str, elapsed: float) -> SendError:
    error = attempt.error
    assert error is not None
    queue = attempt.queue
    if isinstance(error, RequestTimeoutError):
        kind: type[SendError] = SendTimeoutError
    elif isinstance(error, BrokerError):
        kind = SendRejectedError
    else:
        kind = SendConnectionError
    if error.maybe_stored:
        hint = "It may be stored all the same; sending it again can store a second copy."
    else:
        hint = "" if kind is SendRejectedError else "It is not stored."
    return kind(
        f"Message {message_id} to topic {queue.topic!r} was not acknowledged in {elapsed:.3f} s. Attempt 1: "
        f"{queue.broker_name} queue {queue.queue_id} at {attempt.address}, {attempt.elapsed:.3f} s: {error}",
        topic=queue.topic,
        message_id=message_id,
        attempts=(attempt,),
        hint=hint,
    )
