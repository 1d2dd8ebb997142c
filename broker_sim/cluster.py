"""Clusters: name servers and brokers, in this loop or in a thread of their own; topics, messages, history.

`async with` runs the servers in the caller's loop, `with` in a thread and loop of their own, for plain tests, other
loops and subprocesses. The methods are the same.

*Forks.* A child has no use for the servers of its parent: it lets go of the listening sockets, without which a port
stays connectable after its server is gone, and touches nothing else.

Source: none in Java.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from broker_sim.config import (
    DEFAULT_QUEUES,
    SERVERS_MAX,
    BrokerConfig,
    broker_configs,
    check_brokers,
    check_codes,
    check_count,
    check_host,
    check_port,
    check_queue,
    check_topic,
    topic_queues,
)
from broker_sim.handles import BrokerHandle, Done, Injection, NameServerHandle
from broker_sim.history import Exchange
from broker_sim.inject import Rule, request_codes
from broker_sim.servers import Servers
from broker_sim.threads import LoopThread
from broker_sim.verdicts import Verdict
from rocketmq_aio.codes import Permission
from rocketmq_aio.environment import Environment, TcpNetwork
from rocketmq_aio.errors import ClosedError, ConfigError, ForkedError, NotStartedError, StateError, WrongLoopError
from rocketmq_aio.message import MessageExt
from rocketmq_aio.wire.bodies import TopicConfig
from rocketmq_aio.wire.frame import RemotingCommand

__all__ = ["Cluster"]

T = TypeVar("T")

WILDCARDS = ("0.0.0.0", "::")

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
        host: the address to listen on. 0.0.0.0 or ::, which is all, is advertised as this machine's own address.
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
        check_host("host", host)
        if advertise is not None:
            check_host("advertise", advertise)
        configs = broker_configs(brokers)
        if port and port + name_servers + len(configs) > 65_536:
            raise ConfigError(f"Cluster: port {port} leaves no room for the ports of the servers that follow it.")
        if not name_servers and not all(config.namesrv for config in configs):
            raise ConfigError(
                "Cluster: without name servers each broker needs some elsewhere.", hint="Give BrokerConfig(namesrv=…)."
            )
        self._environment = environment or Environment.system()
        self._servers = Servers(
            name_servers=name_servers, configs=configs, topics=topic_queues(topics), port=port, host=host,
            advertised=_advertised(host, self._environment) if advertise is None else advertise,
            history_max=history_max, environment=self._environment,
        )  # fmt: skip
        self._state = "new"
        self._forked = False
        self._thread: LoopThread | None = None
        self._loop_thread_id = 0

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
        try:
            self._thread = LoopThread("broker-sim")
        except BaseException:
            self._state = "closed"
            raise
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
            await self._servers.open()
        except BaseException:
            self._state = "closed"
            _open.discard(self)
            raise

    async def _close(self) -> None:
        if self._state == "closed":
            return
        self._state = "closed"
        _open.discard(self)
        await self._servers.close()

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

    def _run_blocking(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> Awaitable[None]:
        """Run a coroutine in the cluster's loop. Under a plain `with` it is done on return.

        Raises:
            StateError: the cluster is not open, or not usable from here.
        """
        self._check()
        if self._thread is None:
            return function(*args)
        self._thread.run(function(*args))
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
        return self._servers.namesrv

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
        if brokers is not None:
            check_brokers(brokers)
        config = TopicConfig(name, queues, queues, int(permission))
        self._run(self._servers.create_topic, config, brokers, propagate)

    def messages(self, topic: str, *, broker: str | None = None, queue: int | None = None) -> list[MessageExt]:
        """What is stored of a topic: by broker, queue and offset. Nothing of an unknown topic or queue.

        Args:
            topic: the topic's name.
            broker: the name of one broker; None for all.
            queue: one queue only; None for all.

        Raises:
            ConfigError: there is no such broker, or an argument cannot be.
            StateError: the cluster is not open.
        """
        check_queue("Cluster.messages", topic, queue)
        return self._run(self._servers.messages, topic, broker, queue)

    def requests(self, *codes: int) -> list[Exchange]:
        """The requests that the servers got, with their answers; as many of the last ones as `history_max` allows.

        They are in the order in which they were dealt with. What an injection delays comes when it is due.

        Args:
            codes: those of these request codes only; none for all.

        Raises:
            ConfigError: a code is no number.
            StateError: the cluster is not open.
        """
        check_codes(codes)
        return self._run(self._servers.history.exchanges, codes)

    def digest(self) -> str:
        """A hash over all requests and answers so far and when they came: equal in two runs that went alike.

        Of the body of a request it covers the length and the first 256 bytes.

        Raises:
            StateError: the cluster is not open.
        """
        return self._run(self._servers.history.digest)

    def inject(
        self,
        requests: int | Collection[int] | None,
        verdict: Verdict,
        *,
        broker: str | None = None,
        topic: str | None = None,
        times: int | None = None,
        after: int = 0,
        probability: float | None = None,
        when: Callable[[RemotingCommand], object] | None = None,
    ) -> Injection:
        """Break something: say what becomes of certain requests, until the injection is removed.

        Of several injections the first that was installed, and does not `Pass`, decides.

        Args:
            requests: request codes: one, several such as `SEND`, or None for all.
            verdict: what becomes of them.
            broker: at one server only: a broker's name, or a name server's (``name-server-0``); None for all.
            topic: those that name this topic; None for all.
            times: how often it applies, from 1; None for always.
            after: so many of the requests are let through first.
            probability: how likely it applies, 0 to 1. When that is, is drawn from the environment's dice, by the
                place of the injection in the order of all: it is repeatable where the environment has a seed.
            when: a function of the decoded request that says whether the injection is about it. It runs in the
                cluster's thread. If it fails, that is logged, and the request goes on.

        Returns:
            The injection. Use it with `with`, or `remove` it; it ends with the cluster.

        Raises:
            ConfigError: an argument cannot be used; nothing has changed.
            StateError: the cluster is not open.
        """
        codes = request_codes(requests)
        make = partial(
            Rule, codes, verdict, topic=topic, times=times, after=after, probability=probability, when=when
        )
        return Injection(self, self._servers, self._run(self._servers.inject, make, broker))

    def broker(self, name: str) -> BrokerHandle:
        """One broker.

        Raises:
            ConfigError: there is no such broker.
            StateError: the cluster is not open.
        """
        return BrokerHandle(self, self._servers, self._run(self._servers.broker, name))

    def broker_addresses(self) -> dict[str, str]:
        """Name → `host:port` of each broker, as it registers it.

        Raises:
            StateError: the cluster is not open.
        """
        return self._run(lambda: {name: broker.address for name, broker in self._servers.brokers.items()})

    def name_server(self, index: int = 0) -> NameServerHandle:
        """One name server.

        Args:
            index: from 0.

        Raises:
            ConfigError: there is no such name server.
            StateError: the cluster is not open.
        """
        self._check()
        return NameServerHandle(self, self._servers, self._servers.name_server(index))

    # --- forks and the end of the process

    def _forget_after_fork(self) -> None:
        """Called in a child process: what it inherited is not its own."""
        self._forked = True
        self._servers.release_after_fork()

    def _close_at_exit(self) -> None:
        """Called when the process ends."""
        self._close_thread()


def _advertised(host: str, environment: Environment) -> str:
    """What clients are told if the user does not say: the address itself, or this machine's for all of them."""
    if host not in WILDCARDS:
        return host
    own = environment.identity().host
    if (":" in own) != (":" in host):
        raise ConfigError(
            f"Cluster: no address of this machine is known that clients could use where servers listen on {host}.",
            hint="Say with advertise which host clients are told.",
        )
    return own


def _in_child() -> None:
    for cluster in list(_open):
        cluster._forget_after_fork()


def _at_exit() -> None:
    for cluster in list(_open):
        cluster._close_at_exit()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
