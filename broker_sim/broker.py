"""A simulated broker: its topics, its store, its clients and its handlers behind an endpoint; and its registration.

Source: `BrokerController.java`, `TopicConfigManager.java` (5.3.3).
Differs: of the topics that a real broker has from the start only those exist that clients ask for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from broker_sim.config import BrokerConfig
from broker_sim.endpoint import Endpoint
from broker_sim.history import History
from broker_sim.inject import Rules
from broker_sim.registrar import Registrar
from broker_sim.requests.answer import ReplyForm
from broker_sim.requests.dispatch import BROKER_HANDLERS
from broker_sim.requests.names import TBW102
from broker_sim.requests.registry import Registration
from broker_sim.requests.send_form import SendForm
from broker_sim.requests.state import BrokerState
from broker_sim.session import ServerCore
from broker_sim.store.topics import TopicTable
from rocketmq_aio.codes import Permission
from rocketmq_aio.environment import Environment
from rocketmq_aio.message import MessageExt
from rocketmq_aio.net.addresses import join_address
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.wire.bodies import TopicConfig
from rocketmq_aio.wire.ids import UniqueIds, utc_month_ms
from rocketmq_aio.wire.stored import message_ext

__all__ = ["Broker"]

INHERITED = Permission.READ | Permission.WRITE | Permission.INHERIT


class Broker:
    """One broker, a master. Topics and store outlive `abort`; what it knew of clients does not.

    Args:
        config: what it is and does; its name is not empty.
        host: the address to listen on.
        port: 0 takes a free one; from then on it keeps it.
        advertised_host: the host that it registers, for clients.
        name_servers: addresses of the cluster's own name servers; those of `config.namesrv` come after them.
        environment: clock, network, dice, identity.
        history: takes every exchange.
        started_at: when the cluster began, in seconds of the monotonic clock.
        rules: the cluster's injections.
        numbers: numbers for accepted connections.

    Attributes:
        state: what requests see and change of it.
        registrars: one for each name server.
    """

    def __init__(
        self,
        *,
        config: BrokerConfig,
        host: str,
        port: int,
        advertised_host: str,
        name_servers: Sequence[str],
        environment: Environment,
        history: History,
        started_at: float,
        rules: Rules,
        numbers: Iterator[int],
    ) -> None:
        self.config = config
        self.name = config.name
        rng = environment.entropy(config.name)
        self._identity = environment.identity()
        self._wall = environment.clock.wall
        self._unannounced = False
        self.state = BrokerState(
            config=config,
            topics=TopicTable(self._now_ms()),
            rng=rng,
            unique_ids=UniqueIds(
                self._identity, salt=rng.getrandbits(32), counter_start=rng.getrandbits(16), month_ms=utc_month_ms
            ),
            announce=self.announce,
        )
        self._host = host
        self._port = port
        self._advertised_host = advertised_host
        self._form = ReplyForm(serialize_type=config.serialize_type)
        core = ServerCore(
            name=config.name, state=self.state, handlers=BROKER_HANDLERS, form=self._form, clock=environment.clock,
            history=history, started_at=started_at, rules=rules, on_lost=self._lost,
        )  # fmt: skip
        self.endpoint = Endpoint(core=core, environment=environment, numbers=numbers)
        self.registrars = [
            Registrar(
                address=address, describe=self.registration, environment=environment, name=config.name,
                elsewhere=elsewhere,
            )
            for elsewhere, addresses in ((False, name_servers), (True, config.namesrv))
            for address in addresses
        ]  # fmt: skip
        self._create_own_topics()

    def _create_own_topics(self) -> None:
        """The topics that a broker is born with. Never one alone: name servers refuse such a first registration."""
        default = ((TBW102, 8),) if self.config.auto_create_topics else ()
        for name, queues in (*default, (self.config.cluster_name, 16), (self.name, 1)):
            self.state.topics.put(TopicConfig(name, queues, queues, int(INHERITED)), self._now_ms())

    def _now_ms(self) -> int:
        return int(self._wall() * 1000)

    @property
    def address(self) -> str:
        """`host:port`, as it registers it."""
        return join_address(self._advertised_host, self._port)

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self.endpoint.listening

    def create_topic(self, config: TopicConfig) -> bool:
        """Create or change a topic. Name servers hear of it with the next registration; `announce` makes it sooner.

        Returns:
            False if nothing has changed.
        """
        return self.state.topics.put(config, self._now_ms())

    def keep_to_itself(self) -> None:
        """Leave what has just changed to the next full registration."""
        self._unannounced = True

    def announce(self, topic: str) -> None:
        """Tell the name servers of a topic that was created or changed."""
        for registrar in self.registrars:
            registrar.announce((topic,))

    def messages(self, topic: str, queue_id: int | None) -> list[MessageExt]:
        """What is stored of a topic, by queue and offset; of one queue, or of all (None)."""
        return [message_ext(stored, self.name) for stored in self.state.store.messages(topic, queue_id)]

    def registration(self, topics: tuple[str, ...] | None = None) -> Registration:
        """What it says of itself to name servers.

        Args:
            topics: those to mention; None for all.
        """
        if topics is None and self._unannounced:
            # Name servers that know the present version, from an announcement since, would take nothing new from it.
            self._unannounced = False
            self.state.topics.renew(self._now_ms())
        table = self.state.topics.all()
        return Registration(
            cluster_name=self.config.cluster_name,
            broker_name=self.name,
            broker_id=0,
            broker_addr=self.address,
            # Where slaves would ask; nobody listens there.
            ha_server_addr=join_address(self._advertised_host, self._port + 1),
            topics=table if topics is None else {name: table[name] for name in topics},
            data_version=self.state.topics.version,
        )

    async def start(self) -> None:
        """Listen, and begin to register with all name servers (`registrar.wait_tried` waits for that).

        Raises:
            OSError: it cannot listen, for example because the port is taken.
        """
        self._port = await self.endpoint.listen(self._host, self._port)
        store_host = (_packed(self._advertised_host, self._host, self._identity.host), self._port)
        self.state.sending = SendForm(
            cluster_name=self.config.cluster_name, region_id=self.config.region_id,
            store_host=store_host, form=self._form,
        )  # fmt: skip
        for registrar in self.registrars:
            registrar.start()

    def leave(self) -> None:
        """Tell the name servers that it stops. It is written at the end of this turn of the loop."""
        for registrar in self.registrars:
            registrar.leave()

    def abort(self) -> None:
        """Close everything at once and tell nobody."""
        self.endpoint.abort()
        for registrar in self.registrars:
            registrar.abort()

    async def wait_closed(self) -> None:
        """Wait, after `abort`, until no task and no socket is left."""
        await self.endpoint.wait_closed()
        for registrar in self.registrars:
            await registrar.wait_closed()

    def _lost(self, connection: Connection) -> None:
        self.state.clients.forget(connection)


def _packed(*hosts: str) -> bytes:
    """The first of the hosts that is an address of somebody, for records and ids, which have no room for names."""
    for host in hosts:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            continue
        if not address.is_unspecified:
            return address.packed
    return b"\x7f\0\0\1"
