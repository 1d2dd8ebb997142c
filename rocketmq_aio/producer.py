"""`Producer`: the public face of sending, and its life.

This file knows how the parts are put together, started and closed. How a message travels is in `send.py`.

Source: `DefaultMQProducerImpl.start`, `shutdown`, `MQClientInstance.sendHeartbeatToAllBroker` (5.3.3).
Differs: Java's shutdown does not wait for messages in flight, and asks each broker in turn, 3 s each, to forget it.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
import weakref
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType

import msgspec

from rocketmq_aio.config import ProducerConfig
from rocketmq_aio.environment import Environment
from rocketmq_aio.errors import ClosedError, ConfigError, RequestTimeoutError, RocketMQError
from rocketmq_aio.lanes import LaneTable
from rocketmq_aio.lifecycle import Service, State
from rocketmq_aio.membership import Membership
from rocketmq_aio.message import MessageQueue
from rocketmq_aio.name_servers import NameServers, RouteTable, parse_namesrv
from rocketmq_aio.net.pool import Pool
from rocketmq_aio.observe import ProducerStats
from rocketmq_aio.send import SendPath
from rocketmq_aio.validation import check_group, check_topic, seconds_of
from rocketmq_aio.wire.ids import UniqueIds, local_month_ms, utc_month_ms

__all__ = ["CloseReport", "Producer"]

logger = logging.getLogger("rocketmq_aio")

#: A connection's own deadlines come up to one scan late; they have the better words, so they go first.
ANSWER_GRACE = 0.1


class CloseReport(msgspec.Struct, frozen=True):
    """What became of a producer's messages.

    Attributes:
        sent: messages that were acknowledged (or written, if one-way) in the producer's life.
        failed: sends that ended in an error in the producer's life.
        abandoned: sends that were still in flight when closing ended; each of them has raised an error.
        elapsed: seconds that closing took.
    """

    sent: int
    failed: int
    abandoned: int
    elapsed: float


class Producer(SendPath):
    """Sends messages to Apache RocketMQ.

    Args:
        group: the producer group: a name by which operators know this producer.
        namesrv: the name servers: ``"host:9876;host2:9876"``, a sequence of addresses, or None for the environment
            variable NAMESRV_ADDR.
        config: everything else.
        topics: topics whose routes and connections `start` waits for.
        environment: the outside world; None for the real one. A simulated cluster has one to give.

    Raises:
        ConfigError: an argument cannot be used, or there is no name server; the text says which.
        MessageError: one of `topics` is no topic's name.

    Making a producer has no side effects and needs no running loop. It belongs to the loop in which `start` is called.
    """

    def __init__(
        self,
        group: str,
        *,
        namesrv: str | Sequence[str] | None = None,
        config: ProducerConfig | None = None,
        topics: Sequence[str] = (),
        environment: Environment | None = None,
    ) -> None:
        self.group = check_group(group)
        addresses = parse_namesrv(namesrv)
        if config is not None and not isinstance(config, ProducerConfig):
            raise ConfigError(f"config must be a ProducerConfig, not {config!r}.")
        if isinstance(topics, str):
            raise ConfigError(f"topics must be a sequence of str, not the str {topics!r}.", hint=f"topics=[{topics!r}]")
        self._topics = tuple(check_topic(topic) for topic in topics)
        if environment is not None and not isinstance(environment, Environment):
            hint = "A cluster has one: cluster.environment."
            raise ConfigError(f"environment must be an Environment, not {environment!r}.", hint=hint)
        config = config or ProducerConfig()
        environment = environment or Environment.system()
        service = Service(f"Producer {group!r}")
        pool = Pool(
            environment=environment,
            spawn=service.spawn,
            connect_timeout=config.client.connect_timeout,
            reconnect_backoff=config.client.reconnect_backoff,
            address_map=config.client.address_map,
        )
        name_servers = NameServers(addresses, pool, environment)
        table = LaneTable(group, pool, environment)
        self._membership = Membership(group, config.client, pool, table, environment)
        identity = environment.identity()
        rng = environment.entropy("unique ids")
        super().__init__(
            service=service,
            config=config,
            environment=environment,
            pool=pool,
            name_servers=name_servers,
            routes=RouteTable(name_servers, service.spawn, environment, table.replace),
            table=table,
            ids=UniqueIds(
                identity,
                salt=rng.getrandbits(32),
                counter_start=rng.getrandbits(16),
                month_ms=local_month_ms if identity.local_months else utc_month_ms,
            ),
        )
        pool.on_lost = table.connection_lost
        pool.on_connected = self._membership.connected
        self._report: CloseReport | None = None
        self._closing: asyncio.Future[None] | None = None
        self._closing_took = 0.0
        self._is_shut = False
        self._open_at_end = 0  # messages in flight, or waiting for room, when everything was cut off
        self._sent_at_end = 0

    @property
    def state(self) -> State:
        """Where this producer is in its life."""
        return self._service.state

    # --- starting

    async def start(self) -> None:
        """Bind the producer to the running loop and start its background work.

        Without `topics` there is no I/O: an unreachable name server fails nothing yet. With them it waits for their
        routes and for the connections to their brokers.

        Raises:
            RouteError, TransportError: what stands in the way of one of the topics; the producer is closed then.
            StateError: it was started before, or inherited by a fork.

        Cancelling it closes the producer.
        """
        service = self._service
        service.begin()
        # Weakly, because tasks reference the service: a forgotten producer must be collected, to say so.
        crashed = weakref.WeakMethod(self._shut)
        service.on_crash = lambda: (shut := crashed()) and shut("the producer failed")
        try:
            if self._topics:
                async with asyncio.timeout(self._timeout):
                    for topic in self._topics:
                        lanes = await self._find_lanes(topic)
                        for broker in {lane.broker.name: lane.broker for lane in lanes.lanes}.values():
                            broker.connection = await self._pool.connect(broker.addr, broker.name)
        except TimeoutError as error:
            self.abort()
            if isinstance(error, RocketMQError):
                raise
            raise RequestTimeoutError(
                f"The routes and brokers of {', '.join(self._topics)} were not ready in {self._timeout:g} s."
            ) from error
        except BaseException:
            self.abort()
            raise
        if service.state is not State.STARTING:  # closed meanwhile, by another task
            raise service.state_error()
        client = self._config.client
        service.every("route refresh", client.route_refresh, self._routes.refresh_all, first=client.route_refresh)
        service.every("heartbeat", client.heartbeat, self._membership.beat, first=client.heartbeat)
        service.state = State.RUNNING
        self._bind(asyncio.get_running_loop())

    async def ping(self, *, timeout: float | timedelta | None = None) -> None:
        """Check that a name server answers, and each broker of the topics in use.

        Args:
            timeout: seconds, or a timedelta, for all of it (default: `ProducerConfig.send_timeout`).

        Raises:
            NameServersUnavailableError: no name server answers.
            TransportError, RequestTimeoutError, BrokerError: a broker does not.
            StateError: as `send`.
        """
        self._check_running()
        seconds = self._timeout if timeout is None else seconds_of("timeout", timeout)
        due = self._monotonic() + seconds
        await self._name_servers.ping(due)
        try:
            async with asyncio.timeout(max(due - self._monotonic(), 0.0) + ANSWER_GRACE):
                await self._membership.ping(due)
        except TimeoutError as error:
            if isinstance(error, RocketMQError):
                raise
            raise RequestTimeoutError(f"Not all brokers could be connected to within {seconds:g} s.") from error

    # --- looking

    async def queues(self, topic: str) -> tuple[MessageQueue, ...]:
        """The writable queues of a topic, by broker name and queue id.

        Raises:
            NoRouteError, NameServersUnavailableError: there is no route to the topic.
            MessageError: the topic's name is none.
            StateError: as `send`.

        Safe to cancel.
        """
        self._check_running()
        route = await self._routes.get(check_topic(topic))
        return route.queues

    def stats(self) -> ProducerStats:
        """The counters so far. Works in every state."""
        counters, window = self._counters, self._window
        return ProducerStats(
            sent=counters.sent,
            failed=dict(counters.failed),
            late_answers=self._pool.late_answers,
            cancelled_unknown=counters.cancelled_unknown,
            in_flight=window.messages,
            in_flight_bytes=window.bytes,
            window_waits=window.waits,
            reconnects=self._pool.reconnects,
            loop_stalls=self._pool.loop_stalls,
            latency=counters.latency(),
        )

    def _check_running(self) -> None:
        if self._loop is None or asyncio._get_running_loop() is not self._loop:
            raise self._service.state_error()

    # --- closing

    async def aclose(self, *, drain: float | timedelta | None = None) -> CloseReport:
        """Close the producer: refuse new sends, wait for those in flight, leave the brokers, close the sockets.

        Args:
            drain: seconds, or a timedelta, to wait for messages in flight (default: `ProducerConfig.drain`). What is
                not acknowledged by then fails with an error that says whether it may be stored. Brokers have another
                second at most, and not more than `drain`, to confirm that this producer leaves; with 0 they are not
                told, and learn it from the closed connection.

        Returns:
            What became of the messages. Called again, the same report.

        Raises:
            StateError: called from another loop or thread, or after a fork.

        Cancelled, it does the rest at once, as `abort`.
        """
        service = self._service
        if service.forked:
            raise service.state_error()
        if self._report is not None:
            return self._report
        if self._closing is not None:
            await asyncio.shield(self._closing)
            await self._settle()
            return self._finish_report()
        if service.state is State.NEW:
            service.state = State.CLOSED
            return self._finish_report()
        service.check_thread("Use asyncio.run_coroutine_threadsafe(producer.aclose(), loop).")
        if service.loop is not asyncio.get_running_loop():
            if service.loop is not None and not service.loop.is_closed():
                raise service.wrong_loop_error()
            self.abort()
            return self._finish_report()
        if drain is None:
            seconds = self._config.drain
        else:
            seconds = 0.0 if drain in (0, timedelta(0)) else seconds_of("drain", drain)
        return await self._close(seconds)

    async def _close(self, drain: float) -> CloseReport:
        service = self._service
        started = self._monotonic()
        if service.state in (State.RUNNING, State.STARTING):
            service.state = State.CLOSING
        self._unbind()
        self._closing = asyncio.get_running_loop().create_future()
        try:
            try:
                if service.state is State.CLOSING and drain:
                    await self._drain(drain)
            finally:
                self.abort()
            await self._settle()
        finally:
            self._closing_took = self._monotonic() - started
            self._closing.set_result(None)
        if service.crash is not None:
            raise service.state_error()
        return self._finish_report()

    async def _drain(self, drain: float) -> None:
        try:
            async with asyncio.timeout(drain):
                await self._window.idle()
        except TimeoutError:
            pass
        await self._membership.leave(drain)

    async def _settle(self) -> None:
        """Wait until what `abort` has failed and closed is over."""
        await asyncio.sleep(0)  # sends that were in flight hear of it in this turn
        await self._service.join_tasks()
        await self._pool.wait_lost()

    def _finish_report(self) -> CloseReport:
        if self._report is None:
            # Some of those in flight at the end may have had their answer, and not yet had their turn.
            abandoned = max(self._open_at_end - (self._counters.sent - self._sent_at_end), 0)
            if abandoned:
                logger.warning("%s closed with %d messages in flight", self._service.name, abandoned)
            failed = sum(self._counters.failed.values())
            self._report = CloseReport(self._counters.sent, failed, abandoned, self._closing_took)
        return self._report

    def abort(self) -> None:
        """Close at once: nothing is waited for, what is in flight fails. Idempotent; also with the loop stopped.

        Raises:
            StateError: called from another thread while the loop runs; the text shows how to do it.
        """
        service = self._service
        if service.forked or service.state is State.CLOSED:
            return
        service.check_thread("Use loop.call_soon_threadsafe(producer.abort).")
        self._shut("the producer was closed")
        if service.state is not State.FAILED:
            service.state = State.CLOSED

    def _shut(self, why: str) -> None:
        if self._is_shut:
            return
        self._is_shut = True
        self._unbind()
        self._open_at_end = self._window.messages + self._window.waiting
        self._sent_at_end = self._counters.sent
        self._service.cancel_tasks()
        self._window.close(ClosedError(f"{self._service.name}: {why} while the message waited for room."))
        self._pool.abort(why)

    async def __aenter__(self) -> Producer:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close. Left by `CancelledError`, `KeyboardInterrupt` or `SystemExit`, abort: there is no time to wait."""
        if error is None or isinstance(error, Exception):
            await self.aclose()
        else:
            self.abort()

    def __del__(self) -> None:
        """A forgotten producer is a bug of its owner: say so."""
        service = getattr(self, "_service", None)
        if service is None or service.forked or service.state not in (State.STARTING, State.RUNNING):
            return
        warnings.warn(f"{service.name} was never closed.", ResourceWarning, stacklevel=2, source=self)
        loop = service.loop
        try:
            # The collector may run in any thread.
            loop.call_soon_threadsafe(_abandon, service, self._pool)
        except RuntimeError:  # the loop is closed
            _abandon(service, self._pool)


def _abandon(service: Service, pool: Pool) -> None:
    service.cancel_tasks()
    pool.abort("the producer was forgotten")
    service.state = State.CLOSED
