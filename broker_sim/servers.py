"""The name servers and brokers of one cluster, in the loop that runs them: started, changed, looked into, stopped.

*Visible at once.* What is done to a cluster from Python holds when the method returns, name servers included: a new
topic is written into the tables of the cluster's own name servers directly. The broker's registration, which says the
same, follows over its connection, as it does alone where a client creates the topic or a name server is a real one.

*Cancelling.* Whoever is cancelled while something starts or stops leaves it stopped, and never half of it.

Source: none in Java.
"""

from __future__ import annotations

import asyncio
import errno
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import count
from typing import Any

from broker_sim.broker import Broker
from broker_sim.config import BrokerConfig
from broker_sim.history import History
from broker_sim.inject import Rule, Rules
from broker_sim.name_server import NameServer
from broker_sim.registrar import wait_tried
from rocketmq_aio.environment import Environment
from rocketmq_aio.errors import ClosedError, ConfigError, StateError
from rocketmq_aio.message import MessageExt
from rocketmq_aio.wire.bodies import TopicConfig

__all__ = ["Servers"]

LISTEN_HINTS = {
    # asyncio passes over what it cannot bind, and keeps the reason to itself.
    0: "Is it an address of this machine, and may this process open more files (`ulimit -n`)?",
    errno.EADDRINUSE: "Is another program using the port? Port 0 takes a free one.",
    errno.EACCES: "Some ports, most below 1024, need special rights; port 0 takes a free one.",
    errno.EMFILE: "This process has too many open files: see `ulimit -n`.",
    errno.ENFILE: "This machine has too many open files.",
}


class Servers:
    """The servers of one cluster. Arguments are taken as valid.

    Args:
        name_servers: how many.
        configs: the brokers, each with its name.
        topics: name → queues on each broker.
        port: of the first name server, or 0.
        host: the address to listen on.
        advertised: the host that clients are told.
        history_max: exchanges that are kept.
        environment: clock, network, dice.

    Attributes:
        name_servers: those that were made so far.
        brokers: by name.
        history: every exchange.
        namesrv: the addresses of all name servers, for clients.
    """

    def __init__(
        self,
        *,
        name_servers: int,
        configs: Sequence[BrokerConfig],
        topics: Mapping[str, int],
        port: int,
        host: str,
        advertised: str,
        history_max: int,
        environment: Environment,
    ) -> None:
        self.name_servers: list[NameServer] = []
        self.brokers: dict[str, Broker] = {}
        self.history = History(history_max)
        self.rules = Rules()
        self._rule_numbers = count(1)
        self.namesrv = ""
        # Stopping and starting one server take turns; several threads may ask for them at once.
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._closed = False
        self._count = name_servers
        self._configs = configs
        self._topics = topics
        self._port = port
        self._host = host
        self._advertised = advertised
        self._environment = environment

    # --- starting and stopping

    async def open(self) -> None:
        """Start everything, and wait for the brokers' registrations as `wait_tried` does.

        Raises:
            StateError: a server cannot listen. What had been started is closed again.
        """
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> None:
        common: dict[str, Any] = {
            "host": self._host, "advertised_host": self._advertised, "environment": self._environment,
            "history": self.history, "started_at": self._environment.clock.monotonic(), "rules": self.rules,
            "numbers": count(1),
        }  # fmt: skip
        for index in range(self._count):
            name_server = NameServer(name=f"name-server-{index}", port=self._port and self._port + index, **common)
            self.name_servers.append(name_server)
            await self._listen(name_server.name, name_server.start)
        own = [name_server.local_address for name_server in self.name_servers]
        for index, config in enumerate(self._configs, self._count):
            port = config.port or (self._port and self._port + index)
            broker = self.brokers[config.name] = Broker(config=config, port=port, name_servers=own, **common)
            for name, queues in self._topics.items():
                broker.create_topic(TopicConfig(name, queues, queues))
            await self._listen(broker.name, broker.start)
        elsewhere = dict.fromkeys(address for config in self._configs for address in config.namesrv)
        self.namesrv = ";".join([*(name_server.address for name_server in self.name_servers), *elsewhere])
        await wait_tried(registrar for broker in self.brokers.values() for registrar in broker.registrars)

    async def _listen(self, name: str, start: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a server.

        Raises:
            StateError: it cannot listen.
        """
        try:
            await start()
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that cannot be asked for
            hint = f"Is {self._host!r} an address of this machine?"
            if isinstance(error, OSError):
                hint = LISTEN_HINTS.get(error.errno or 0, hint)
            raise StateError(
                f"{name} cannot listen: {getattr(error, 'strerror', None) or error}.", hint=hint
            ) from error

    async def close(self) -> None:
        """Let the brokers leave, and close everything. No peer is waited for, and no start that is under way."""
        self._closed = True
        await self._stop([*self.brokers.values()], [*self.name_servers])

    async def _stop(self, brokers: Sequence[Broker], name_servers: Sequence[NameServer] = ()) -> None:
        servers: list[Broker | NameServer] = [*brokers, *name_servers]
        try:
            for broker in brokers:
                broker.leave()
            await asyncio.sleep(0)  # what was told is written at the end of the turn
        finally:
            for server in servers:
                server.abort()
        for server in servers:
            await server.wait_closed()

    async def stop_broker(self, broker: Broker) -> None:
        """Stop a broker, and take it out of the tables of the cluster's own name servers."""
        async with self._turns[broker.name]:
            if not broker.running:
                return
            registration = broker.registration(())
            for name_server in self.name_servers:
                name_server.registry.unregister(
                    registration.cluster_name, registration.broker_name, registration.broker_addr
                )
            await self._stop([broker])

    async def start_broker(self, broker: Broker) -> None:
        """Start a broker again, and wait for its registrations as `wait_tried` does.

        Raises:
            StateError: it cannot listen, or the cluster was closed meanwhile.
        """
        async with self._turns[broker.name]:
            self._check_open()
            if broker.running:
                return
            try:
                await self._listen(broker.name, broker.start)
                self._check_open()
                await wait_tried(broker.registrars)
                self._check_open()
            except BaseException:
                broker.abort()
                raise

    async def stop_name_server(self, name_server: NameServer) -> None:
        """Stop a name server."""
        async with self._turns[name_server.name]:
            await self._stop((), [name_server])

    async def start_name_server(self, name_server: NameServer) -> None:
        """Start a name server again, and wait until the running brokers have registered with it.

        Raises:
            StateError: it cannot listen, or the cluster was closed meanwhile.
        """
        async with self._turns[name_server.name]:
            self._check_open()
            if name_server.running:
                return
            try:
                await self._listen(name_server.name, name_server.start)
                self._check_open()
                registrars = [
                    registrar
                    for broker in self.brokers.values()
                    if broker.running
                    for registrar in broker.registrars
                    if registrar.address == name_server.local_address
                ]
                for registrar in registrars:
                    registrar.start()
                await wait_tried(registrars)
                self._check_open()
            except BaseException:
                name_server.abort()
                raise

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("The cluster was closed while a server started.")

    def release_after_fork(self) -> None:
        """In a child that inherited them: let go of all ports."""
        servers: list[Broker | NameServer] = [*self.name_servers, *self.brokers.values()]
        for server in servers:
            server.endpoint.release_after_fork()

    # --- using them

    def broker(self, name: object) -> Broker:
        """One broker.

        Raises:
            ConfigError: there is no such broker.
        """
        broker = self.brokers.get(name) if isinstance(name, str) else None
        if broker is None:
            known = ", ".join(self.brokers) or "none"
            raise ConfigError(f"Cluster: there is no broker {name!r}.", hint=f"Its brokers: {known}.")
        return broker

    def name_server(self, index: object) -> NameServer:
        """One name server.

        Raises:
            ConfigError: there is no such name server.
        """
        number = len(self.name_servers)
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < number:
            raise ConfigError(f"Cluster: there is no name server {index!r}; there are {number}, from 0.")
        return self.name_servers[index]

    def create_topic(self, config: TopicConfig, names: Sequence[str] | None, propagate: bool) -> None:
        """Create or change a topic on some brokers, or on all (None).

        Raises:
            ConfigError: there is no such broker; nothing has changed.
        """
        for broker in list(self.brokers.values()) if names is None else [self.broker(name) for name in names]:
            broker.create_topic(config)
            if not propagate:
                broker.keep_to_itself()
                continue
            registration = broker.registration((config.topic_name,))
            for name_server in self.name_servers:
                registry = name_server.registry
                if registry.is_registered(registration.cluster_name, registration.broker_addr):
                    registry.register(registration, None, self._environment.clock.monotonic())
            broker.announce(config.topic_name)

    def inject(self, make: Callable[..., Rule], server: object) -> Rule:
        """Install a rule.

        Args:
            make: makes it, given its server's name.
            server: the name of a broker or name server; None for all.

        Raises:
            ConfigError: there is no such server, or the rule cannot be made.
        """
        known = [*self.brokers, *(name_server.name for name_server in self.name_servers)]
        if server is not None and not isinstance(server, str):
            raise ConfigError(f"Cluster.inject: broker must be the name of a server, not {server!r}.")
        if server is not None and server not in known:
            raise ConfigError(f"Cluster.inject: there is no server {server!r}.", hint=f"There are: {', '.join(known)}.")
        rule = make(server=server)
        # Dice of its own: what the others draw, and whether later ones exist, does not change where it applies.
        rule.rng = self._environment.entropy(f"injection-{next(self._rule_numbers)}")
        self.rules.add(rule)
        return rule

    def messages(self, topic: str, name: str | None, queue: int | None) -> list[MessageExt]:
        """What is stored of a topic: on one broker, or on all (None); in one queue, or in all (None).

        Raises:
            ConfigError: there is no such broker.
        """
        wanted = list(self.brokers.values()) if name is None else [self.broker(name)]
        return [message for broker in wanted for message in broker.messages(topic, queue)]
