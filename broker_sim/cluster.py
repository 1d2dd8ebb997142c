"""Clusters: name servers and brokers, in this loop or in a thread of their own; topics, messages, history.

`async with` runs the servers in the caller's loop, `with` in a thread and loop of their own, for plain tests, other
loops and subprocesses. The methods are the same.

*Visible at once.* What is done to a cluster from Python holds when the method returns, name servers included: a new
topic is written into the tables of the cluster's own name servers directly. The broker's registration, which says the
same, follows over its connection, as it does alone where a client creates the topic or a name server is a real one.

*Forks.* A child has no use for the servers of its parent: it closes the listening descriptors, without which a port
stays connectable after its server is gone, and touches nothing else.

Source: none in Java.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar

from broker_sim.broker import Broker
from broker_sim.config import (
    DEFAULT_QUEUES,
    SERVERS_MAX,
    BrokerConfig,
    broker_configs,
    check_count,
    check_port,
    check_topic,
    topic_queues,
)
from broker_sim.handles import BrokerHandle, Done, NameServerHandle
from broker_sim.history import Exchange, History
from broker_sim.name_server import NameServer
from broker_sim.threads import LoopThread
from rocketmq_aio.codes import Permission
from rocketmq_aio.environment import Environment, TcpNetwork
from rocketmq_aio.errors import ClosedError, ConfigError, ForkedError, NotStartedError, StateError, WrongLoopError
from rocketmq_aio.message import MessageExt
from rocketmq_aio.wire.bodies import TopicConfig

__all__ = ["Cluster"]

T = TypeVar("T")

WILDCARDS = ("0.0.0.0", "::", "")

#: Clusters that have been opened and not closed.
_open: weakref.WeakSet[Cluster] = weakref.WeakSet()


class Cluster:
    """Simulated name servers and brokers.

    Args:
        brokers: how many, 0 to 1,000, or what each of them is. They are called broker-a, broker-b, … unless told
            otherwise.
        name_servers: how many, 0 to 1,000. Without any, brokers must register elsewhere (`BrokerConfig.namesrv`).
        topics: topics that exist from the start: name → queues on each broker, or names, with 4 queues each.
        environment: clock, network, dice. None: the real world (TCP on loopback).
        port: of the first name server; further name servers and then the brokers take the ports that follow. 0: free
            ones.
        history_max: exchanges that `requests` can look back on, 0 to 10,000,000.
        host: the address to listen on.
        advertise: the host that clients are told, if they cannot use `host`: a name or an address.

    Raises:
        ConfigError: an argument cannot be used; the text says why.
    """

    def __init__(
        self,
        *,
        brokers: int | Sequence[BrokerConfig] = 1,
        name_servers: int = 1,
        topics: Mapping[str, int] | Sequence[str] = (),
        environment: Environment | None = None,
        port: int = 0,
        history_max: int = 10_000,
        host: str = "127.0.0.1",
        advertise: str | None = None,
    ) -> None:
        check_count("Cluster", "name_servers", name_servers, 0, SERVERS_MAX)
        check_count("Cluster", "history_max", history_max, 0, 10_000_000)
        check_port("Cluster", port)
        if environment is not None and not isinstance(environment, Environment):
            raise ConfigError(f"Cluster: environment must be an Environment or None, not {environment!r}.")
        for name, value in (("host", host), ("advertise", "" if advertise is None else advertise)):
            if not isinstance(value, str) or any(character in value for character in " /[]"):
                raise ConfigError(f"Cluster: {name} must be a host name or an address without port, not {value!r}.")
        self._configs = broker_configs(brokers)
        self._topics = topic_queues(topics)
        self._name_server_count = name_servers
        self._history_max = history_max
        self._host = host
        self._advertise = advertise
        self._port = port
        self._given_environment = environment
        if port and port + name_servers + len(self._configs) > 65_536:
            raise ConfigError(f"Cluster: port {port} leaves no room for the ports of the servers that follow it.")
        if not name_servers and not all(config.namesrv for config in self._configs):
            raise ConfigError(
                "Cluster: without name servers each broker needs some elsewhere.", hint="Give BrokerConfig(namesrv=…)."
            )
        self._environment = environment or Environment.system()
        self._state = "new"
        self._forked = False
        self._thread: LoopThread | None = None
        self._loop_thread_id = 0
        self._namesrv = ""
        self._name_servers: list[NameServer] = []
        self._brokers: dict[str, Broker] = {}
        self._history = History(0)

    # --- opening and closing

    async def __aenter__(self) -> Self:
        self._begin()
        self._loop_thread_id = threading.get_ident()
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._forked:
            await self._close()

    def __enter__(self) -> Self:
        if not isinstance(self._environment.network, TcpNetwork):
            raise ConfigError(
                "Cluster: only the real world works in a thread of its own, and this environment is another.",
                hint="Leave `environment` out, or use `async with`.",
            )
        self._begin()
        self._thread = LoopThread("broker-sim")
        try:
            self._thread.run(self._open())
        except BaseException:
            self._thread.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close_thread()

    def _close_thread(self) -> None:
        if self._forked or self._thread is None or self._state == "closed":
            return
        try:
            self._thread.run(self._close())
        finally:
            self._thread.close()

    def _begin(self) -> None:
        if self._forked:
            self._check()
        if self._state != "new":
            raise StateError(f"This cluster is {self._state} already.", hint="Each `with` needs a Cluster of its own.")
        self._state = "open"

    async def _open(self) -> None:
        _open.add(self)
        try:
            environment = self._environment
            advertised = self._advertise
            if advertised is None:
                advertised = environment.identity().host if self._host in WILDCARDS else self._host
            self._history = History(self._history_max)
            common: dict[str, Any] = {
                "host": self._host, "advertised_host": advertised, "environment": environment, "history": self._history,
                "started_at": environment.clock.monotonic(), "numbers": count(1),
            }  # fmt: skip
            for index in range(self._name_server_count):
                name_server = NameServer(name=f"name-server-{index}", port=self._port and self._port + index, **common)
                self._name_servers.append(name_server)
                await self._listen(name_server.name, name_server.start)
            own = [name_server.local_address for name_server in self._name_servers]
            for index, config in enumerate(self._configs, self._name_server_count):
                port = config.port or (self._port and self._port + index)
                name_servers = (*own, *config.namesrv)
                broker = Broker(config=config, port=port, name_servers=name_servers, **common)
                for name, queues in self._topics.items():
                    broker.create_topic(TopicConfig(name, queues, queues))
                self._brokers[broker.name] = broker
                await self._listen(broker.name, broker.start)
        except BaseException:
            await self._close()
            raise
        elsewhere = dict.fromkeys(address for config in self._configs for address in config.namesrv)
        self._namesrv = ";".join([*(name_server.address for name_server in self._name_servers), *elsewhere])

    async def _listen(self, name: str, start: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a server.

        Raises:
            StateError: it cannot listen.
        """
        try:
            await start()
        except OSError as error:
            raise StateError(
                f"{name} cannot listen: {error.strerror or error}.",
                hint="Is another program using the port? Port 0 takes a free one.",
            ) from error

    async def _close(self) -> None:
        if self._state == "closed":
            return
        self._state = "closed"
        _open.discard(self)
        servers: list[Broker | NameServer] = [*self._brokers.values(), *self._name_servers]
        try:
            for broker in self._brokers.values():
                broker.leave()
            await asyncio.sleep(0)  # what was told is written at the end of the turn
        finally:
            connections = [connection for server in servers for connection in server.abort()]
        for connection in connections:
            await connection.wait_lost()

    # --- who may call

    def _check(self) -> None:
        if self._forked:
            raise ForkedError(
                "This cluster belongs to the parent process.", hint="A child can use cluster.namesrv and connect to it."
            )
        if self._state == "new":
            raise NotStartedError("The cluster has not been opened.", hint="Use it as `with Cluster(...) as cluster`.")
        if self._state == "closed":
            raise ClosedError("The cluster is closed.")
        if self._thread is None and threading.get_ident() != self._loop_thread_id:
            raise WrongLoopError(
                "A cluster that was opened with `async with` belongs to the thread of its loop.",
                hint="Open it with a plain `with` to use it from several threads.",
            )

    def _run(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the cluster's thread.

        Raises:
            StateError: the cluster is not open, not usable from here, or did not answer within 10 seconds.
        """
        self._check()
        return function(*args) if self._thread is None else self._thread.call(function, *args)

    def _run_blocking(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Awaitable[None]:
        """Run a coroutine in the cluster's loop. Under a plain `with` it is done on return.

        Raises:
            StateError: the cluster is not open, or not usable from here.
        """
        self._check()
        if self._thread is None:
            return function()
        self._thread.run(function())
        return Done()

    # --- using it

    @property
    def namesrv(self) -> str:
        """The addresses of the name servers, as clients of any language take them: ``host:port;host:port``.

        Raises:
            NotStartedError: the cluster has not been opened.
        """
        if self._state == "new":
            self._check()
        return self._namesrv

    @property
    def environment(self) -> Environment:
        """What a Python client is given as its `environment` to reach this cluster."""
        if self._forked:
            self._check()
        return self._environment if self._thread is None else Environment.system()

    def create_topic(
        self,
        name: str,
        *,
        queues: int = DEFAULT_QUEUES,
        brokers: Sequence[str] | None = None,
        permission: int = Permission.READ | Permission.WRITE,
        propagate: bool = True,
    ) -> None:
        """Create a topic, or change what it is. It is visible at once, name servers included.

        Args:
            name: up to 127 letters, digits and ``%|_-``.
            queues: on each broker, 0 to 65,536.
            brokers: names of the brokers that get it; None for all.
            permission: bits of `Permission`.
            propagate: False: the name servers hear of it only when its brokers register the next time, within 30
                seconds.

        Raises:
            ConfigError: an argument cannot be used; nothing has changed.
            StateError: the cluster is not open.
        """
        check_topic(name, queues)
        check_count("Cluster.create_topic", "permission", permission, 0, 15)
        self._run(self._create_topic, TopicConfig(name, queues, queues, int(permission)), brokers, propagate)

    def _create_topic(self, config: TopicConfig, names: Sequence[str] | None, propagate: bool) -> None:
        if isinstance(names, str):
            raise ConfigError(f"Cluster: brokers must be a sequence of names, not the str {names!r}.")
        for broker in list(self._brokers.values()) if names is None else [self._broker(name) for name in names]:
            broker.create_topic(config)
            if not propagate:
                continue
            registration = broker.registration((config.topic_name,))
            for name_server in self._name_servers:
                registry = name_server.registry
                if registry.is_registered(registration.cluster_name, registration.broker_addr):
                    registry.register(registration, None, self._environment.clock.monotonic())
            broker.announce(config.topic_name)

    def _withdraw(self, broker: Broker) -> None:
        """Take a broker out of the tables of the cluster's own name servers."""
        registration = broker.registration(())
        for name_server in self._name_servers:
            name_server.registry.unregister(
                registration.cluster_name, registration.broker_name, registration.broker_addr
            )

    async def _register_all(self) -> None:
        """Register all running brokers anew."""
        for broker in self._brokers.values():
            if broker.running:
                await broker.register()

    def messages(self, topic: str, *, broker: str | None = None, queue: int | None = None) -> list[MessageExt]:
        """What is stored of a topic: by broker, queue and offset. Nothing of an unknown topic or queue.

        Args:
            topic: the topic's name.
            broker: the name of one broker; None for all.
            queue: one queue only; None for all.

        Raises:
            ConfigError: there is no such broker.
            StateError: the cluster is not open.
        """
        return self._run(self._messages, topic, broker, queue)

    def _messages(self, topic: str, broker: str | None, queue: int | None) -> list[MessageExt]:
        wanted = list(self._brokers.values()) if broker is None else [self._broker(broker)]
        return [message for one in wanted for message in one.messages(topic, queue)]

    def requests(self, *codes: int) -> list[Exchange]:
        """The requests that the servers got, with their answers, oldest first; as many as `history_max` allows.

        Args:
            codes: those of these request codes only; none for all.

        Raises:
            ConfigError: a code is no number.
            StateError: the cluster is not open.
        """
        for code in codes:
            if isinstance(code, bool) or not isinstance(code, int):
                raise ConfigError(f"Cluster.requests: codes are numbers, such as RequestCode.HEART_BEAT, not {code!r}.")
        return self._run(self._history.exchanges, codes)

    def digest(self) -> str:
        """A hash over all requests and answers so far and when they came: equal in two runs that went alike.

        Raises:
            StateError: the cluster is not open.
        """
        return self._run(self._history.digest)

    def broker(self, name: str) -> BrokerHandle:
        """One broker.

        Raises:
            ConfigError: there is no such broker.
            StateError: the cluster is not open.
        """
        return BrokerHandle(self, self._run(self._broker, name))

    def _broker(self, name: str) -> Broker:
        broker = self._brokers.get(name)
        if broker is None:
            known = ", ".join(self._brokers) or "none"
            raise ConfigError(f"Cluster: there is no broker {name!r}.", hint=f"Its brokers: {known}.")
        return broker

    def broker_addresses(self) -> dict[str, str]:
        """Name → `host:port` of each broker, as it registers it.

        Raises:
            StateError: the cluster is not open.
        """
        return self._run(lambda: {name: broker.address for name, broker in self._brokers.items()})

    def name_server(self, index: int = 0) -> NameServerHandle:
        """One name server.

        Args:
            index: from 0.

        Raises:
            ConfigError: there is no such name server.
            StateError: the cluster is not open.
        """
        self._check()
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self._name_servers):
            count = len(self._name_servers)
            raise ConfigError(f"Cluster: there is no name server {index!r}; there are {count}, from 0.")
        return NameServerHandle(self, self._name_servers[index])

    # --- forks and the end of the process

    def _forget_after_fork(self) -> None:
        """Called in a child process: what it inherited is not its own."""
        self._forked = True
        servers: list[Broker | NameServer] = [*self._name_servers, *self._brokers.values()]
        for server in servers:
            for descriptor in server.endpoint.descriptors():
                try:
                    os.close(descriptor)
                except OSError:
                    pass

    def _close_at_exit(self) -> None:
        """Called when the process ends."""
        self._close_thread()


def _in_child() -> None:
    for cluster in list(_open):
        cluster._forget_after_fork()


def _at_exit() -> None:
    for cluster in list(_open):
        cluster._close_at_exit()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
