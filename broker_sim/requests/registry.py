"""The tables of a name server: which brokers there are, and which queues of which topics they have.

What a broker registers stays until the broker leaves: a topic that it does not mention any more keeps its route, as
with a real name server. A broker leaves by saying so, by losing its connection, or by silence.

Not simulated: acting masters, static topics, zones.

Source: `RouteInfoManager.java` (5.3.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rocketmq_aio.codes import Permission
from rocketmq_aio.wire.bodies import BrokerData, DataVersion, QueueData, TopicConfig, TopicRouteData

if TYPE_CHECKING:
    from rocketmq_aio.net.connection import Connection

__all__ = ["Registration", "Registry"]

MASTER_ID = 0


class Registration(msgspec.Struct, kw_only=True):
    """What a broker says of itself.

    Attributes:
        cluster_name: the cluster that it belongs to.
        broker_name: shared by a master and its slaves.
        broker_id: 0 is the master.
        broker_addr: `host:port` for clients.
        ha_server_addr: `host:port` for its slaves.
        enable_acting_master: None: the broker is too old to say.
        heartbeat_timeout_ms: silence after which it counts as dead.
        topics: by name; all of them, or those that have changed.
        data_version: the version of the broker's whole table.
    """

    cluster_name: str
    broker_name: str
    broker_id: int
    broker_addr: str
    ha_server_addr: str = ""
    enable_acting_master: bool | None = False
    heartbeat_timeout_ms: int = 120_000
    topics: dict[str, TopicConfig]
    data_version: DataVersion


class LiveBroker(msgspec.Struct):
    """A broker that is connected and has been heard of lately. Times in seconds of the monotonic clock."""

    registration: Registration
    connection: Connection | None
    heard_at: float


class Registry:
    """All tables of one name server."""

    def __init__(self) -> None:
        # Dicts, not sets: the order in which they are gone through can be seen.
        self._queues: dict[str, dict[str, QueueData]] = {}
        self._brokers: dict[str, BrokerData] = {}
        self._live: dict[tuple[str, str], LiveBroker] = {}

    def clear(self) -> None:
        """Forget everything, as a name server does that is started again."""
        self._queues.clear()
        self._brokers.clear()
        self._live.clear()

    def register(self, registration: Registration, connection: Connection | None, now: float) -> bool:
        """Take a registration into the tables.

        Args:
            registration: what the broker says.
            connection: the one that it came on; its loss unregisters the broker. None: the one that is known.
            now: seconds of the monotonic clock.

        Returns:
            False if it is refused: a broker's first registration must not have exactly one topic.
        """
        name, broker_id, addr = registration.broker_name, registration.broker_id, registration.broker_addr
        data = self._brokers.setdefault(name, BrokerData(registration.cluster_name, name))
        addrs = data.broker_addrs
        data.enable_acting_master = bool(registration.enable_acting_master)
        for other in [other for other, known in addrs.items() if known == addr and other != broker_id]:
            del addrs[other]
        key = (registration.cluster_name, addr)
        if self._is_outdated(registration):
            self._live.pop(key, None)
            return True
        first = broker_id not in addrs
        if first and len(registration.topics) == 1:
            if not addrs:
                del self._brokers[name]
            return False
        addrs[broker_id] = addr
        live = self._live.get(key)
        known_version = None if live is None else live.registration.data_version
        if broker_id == MASTER_ID or (registration.enable_acting_master is not None and broker_id == min(addrs)):
            for config in registration.topics.values():
                queues = self._queues.setdefault(config.topic_name, {})
                if first or known_version != registration.data_version or name not in queues:
                    queues[name] = self._queue_data(registration, config)
        if connection is None and live is not None:
            connection = live.connection
        self._live[key] = LiveBroker(registration, connection, now)
        return True

    def _is_outdated(self, registration: Registration) -> bool:
        """Whether another address has the broker's place, with a later state."""
        known = self._brokers[registration.broker_name].broker_addrs.get(registration.broker_id)
        if known is None or known == registration.broker_addr:
            return False
        live = self._live.get((registration.cluster_name, known))
        if live is None:
            return False
        return (live.registration.data_version.state_version or 0) > (registration.data_version.state_version or 0)

    @staticmethod
    def _queue_data(registration: Registration, config: TopicConfig) -> QueueData:
        perm = config.perm
        if registration.broker_id != MASTER_ID and registration.enable_acting_master:
            perm &= ~Permission.WRITE
        return QueueData(
            registration.broker_name, config.read_queue_nums, config.write_queue_nums, int(perm), config.topic_sys_flag
        )

    def master_of(self, registration: Registration) -> tuple[str, str] | None:
        """Of a slave: where its master serves slaves, and the master's address. None if it has none."""
        data = self._brokers.get(registration.broker_name)
        if data is None or registration.broker_id == MASTER_ID or MASTER_ID not in data.broker_addrs:
            return None
        addr = data.broker_addrs[MASTER_ID]
        live = self._live.get((registration.cluster_name, addr))
        return None if live is None else (live.registration.ha_server_addr, addr)

    def unregister(self, cluster_name: str, broker_name: str, broker_addr: str) -> None:
        """Take a broker out of the tables, and topics that nobody has any more. Unknown brokers are no error."""
        self._live.pop((cluster_name, broker_addr), None)
        data = self._brokers.get(broker_name)
        if data is None:
            return
        for broker_id in [known for known, addr in data.broker_addrs.items() if addr == broker_addr]:
            del data.broker_addrs[broker_id]
        if data.broker_addrs:
            return
        del self._brokers[broker_name]
        for topic in [topic for topic, queues in self._queues.items() if broker_name in queues]:
            del self._queues[topic][broker_name]
            if not self._queues[topic]:
                del self._queues[topic]

    def connection_lost(self, connection: Connection) -> None:
        """Unregister the broker whose connection it was: one only, as a real name server does."""
        for live in self._live.values():
            if live.connection is connection:
                self._unregister(live)
                return

    def expire(self, now: float) -> list[Connection]:
        """Unregister the brokers that have been silent for too long.

        Args:
            now: seconds of the monotonic clock.

        Returns:
            Their connections, which are to be closed.
        """
        silent = [
            live
            for live in self._live.values()
            if now - live.heard_at > live.registration.heartbeat_timeout_ms / 1000
        ]
        for live in silent:
            self._unregister(live)
        return [live.connection for live in silent if live.connection is not None]

    def _unregister(self, live: LiveBroker) -> None:
        registration = live.registration
        self.unregister(registration.cluster_name, registration.broker_name, registration.broker_addr)

    def confirm(self, cluster_name: str, broker_addr: str, version: DataVersion, now: float) -> DataVersion | None:
        """The version that is known of a broker, or None. If it is `version`, the broker counts as alive."""
        live = self._live.get((cluster_name, broker_addr))
        if live is None:
            return None
        if live.registration.data_version == version:
            live.heard_at = now
        return live.registration.data_version

    def is_registered(self, cluster_name: str, broker_addr: str) -> bool:
        """Whether the broker at this address is registered."""
        return (cluster_name, broker_addr) in self._live

    def route(self, topic: str) -> TopicRouteData | None:
        """Where the topic's queues are; None if no known broker has it."""
        queues = self._queues.get(topic, {})
        brokers = [self._brokers[name] for name in queues if name in self._brokers]
        return TopicRouteData(brokers, list(queues.values())) if brokers else None
