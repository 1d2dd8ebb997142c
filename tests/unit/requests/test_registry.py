"""The tables of a name server follow what brokers register, as Java's do."""

from __future__ import annotations

from typing import Any, cast

import pytest

from broker_sim.requests.registry import Registration, Registry
from rocketmq_aio.wire.bodies import DataVersion, TopicConfig


class FakeConnection:
    """Registries only compare connections."""


def connection() -> Any:
    return FakeConnection()


def registration(name: str = "broker-a", **changes: Any) -> Registration:
    topics = changes.pop("topics", {"T": 4, "TBW102": 8})
    facts: dict[str, Any] = {
        "cluster_name": "DefaultCluster", "broker_name": name, "broker_id": 0, "broker_addr": f"{name}:10911",
        "ha_server_addr": f"{name}:10912",
        "topics": {topic: TopicConfig(topic, queues, queues) for topic, queues in topics.items()},
        "data_version": DataVersion(timestamp=1),
    }  # fmt: skip
    return Registration(**(facts | changes))


def addrs(registry: Registry, topic: str = "T") -> dict[str, dict[int, str]] | None:
    route = registry.route(topic)
    return None if route is None else {data.broker_name: data.broker_addrs for data in route.broker_datas}


def queues(registry: Registry, topic: str = "T") -> dict[str, tuple[int, int]]:
    route = registry.route(topic)
    return {} if route is None else {data.broker_name: (data.write_queue_nums, data.perm) for data in route.queue_datas}


def test_route_of_registered_brokers() -> None:
    """Each broker that has the topic is in its route; a topic that nobody has, has none."""
    registry = Registry()
    assert registry.register(registration("broker-a"), None, 0)
    assert registry.register(registration("broker-b", topics={"T": 2, "X": 1}), None, 0)
    assert addrs(registry) == {"broker-a": {0: "broker-a:10911"}, "broker-b": {0: "broker-b:10911"}}
    assert queues(registry) == {"broker-a": (4, 6), "broker-b": (2, 6)}
    assert addrs(registry, "X") == {"broker-b": {0: "broker-b:10911"}}
    assert registry.route("nowhere") is None


def test_first_registration_with_one_topic_is_refused() -> None:
    """A broker's table is not to begin with a single topic; none, or a later one, are fine."""
    registry = Registry()
    assert not registry.register(registration(topics={"T": 4}), None, 0)
    assert registry.route("T") is None
    assert registry.register(registration(topics={}), None, 0)
    assert registry.register(registration(topics={"T": 4}), None, 0)
    assert queues(registry) == {"broker-a": (4, 6)}


def test_unchanged_version_changes_nothing() -> None:
    """The queues of a known topic are rewritten only with a new version; topics that are not mentioned stay."""
    registry = Registry()
    registry.register(registration(), None, 0)
    registry.register(registration(topics={"T": 8, "New": 1}), None, 0)
    assert queues(registry) == {"broker-a": (4, 6)}
    assert queues(registry, "New") == {"broker-a": (1, 6)}
    registry.register(registration(topics={"T": 8}, data_version=DataVersion(timestamp=2)), None, 0)
    assert queues(registry) == {"broker-a": (8, 6)}
    assert queues(registry, "TBW102") == {"broker-a": (8, 6)}


def test_unregister() -> None:
    """A broker that leaves takes its topics along, and no others; who is not there may leave too."""
    registry = Registry()
    registry.register(registration("broker-a"), None, 0)
    registry.register(registration("broker-b", topics={"T": 2, "B": 2}), None, 0)
    registry.unregister("DefaultCluster", "broker-b", "broker-b:10911")
    registry.unregister("DefaultCluster", "broker-c", "broker-c:10911")
    assert addrs(registry) == {"broker-a": {0: "broker-a:10911"}}
    assert registry.route("B") is None
    assert not registry.is_registered("DefaultCluster", "broker-b:10911")


def test_lost_connection_unregisters_one_broker() -> None:
    """The broker that registered on a connection leaves with it; of several, only the first."""
    registry, first, second = Registry(), connection(), connection()
    for name in ("broker-a", "broker-b"):
        registry.register(registration(name), first, 0)
    registry.register(registration("broker-c"), second, 0)
    registry.connection_lost(first)
    assert set(cast(dict[str, Any], addrs(registry))) == {"broker-b", "broker-c"}
    registry.connection_lost(connection())
    assert set(cast(dict[str, Any], addrs(registry))) == {"broker-b", "broker-c"}


def test_registration_without_connection_keeps_the_known_one() -> None:
    """What is written directly does not loosen a broker from its connection."""
    registry, first = Registry(), connection()
    registry.register(registration(), first, 0)
    registry.register(registration(topics={"New": 1}, data_version=DataVersion(timestamp=2)), None, 0)
    registry.connection_lost(first)
    assert registry.route("T") is None


def test_silent_brokers_expire() -> None:
    """A broker is dropped after its own time; its connection is handed out to be closed."""
    registry, first, second = Registry(), connection(), connection()
    registry.register(registration("broker-a"), first, 0.0)
    registry.register(registration("broker-b", heartbeat_timeout_ms=10_000), second, 0.0)
    assert registry.expire(10.0) == []
    assert registry.expire(10.1) == [second]
    assert registry.confirm("DefaultCluster", "broker-a:10911", DataVersion(timestamp=1), 100.0) is not None
    assert registry.expire(200.0) == []
    assert registry.expire(220.1) == [first]
    assert registry.route("T") is None


def test_confirm_tells_the_known_version() -> None:
    """A broker asks whether its table is known: only the same version counts as a sign of life."""
    registry = Registry()
    registry.register(registration(), None, 0.0)
    assert registry.confirm("DefaultCluster", "broker-a:10911", DataVersion(timestamp=9), 100.0) == DataVersion(1)
    assert registry.confirm("DefaultCluster", "nobody:1", DataVersion(timestamp=9), 100.0) is None
    assert registry.expire(120.1) == []
    assert registry.route("T") is None


@pytest.mark.parametrize(("state", "taken"), [(0, True), (1, True), (2, False)])
def test_second_address_for_a_place(state: int, taken: bool) -> None:
    """A newcomer takes a master's place unless that one has a later state."""
    registry = Registry()
    old = registration(broker_addr="old:1", data_version=DataVersion(timestamp=1, state_version=state))
    new = registration(broker_addr="new:1", data_version=DataVersion(timestamp=2, state_version=1))
    registry.register(old, None, 0)
    assert registry.register(new, None, 0)
    assert addrs(registry) == {"broker-a": {0: "new:1" if taken else "old:1"}}
    assert registry.is_registered("DefaultCluster", "new:1") is taken


def test_slaves() -> None:
    """A slave does not change the queues of its master, and is told where that is; the address may change its id."""
    registry = Registry()
    registry.register(registration(), None, 0)
    slave = registration(broker_id=1, broker_addr="slave:1", topics={"T": 9, "S": 1}, enable_acting_master=None)
    assert registry.register(slave, None, 0)
    assert addrs(registry) == {"broker-a": {0: "broker-a:10911", 1: "slave:1"}}
    assert queues(registry) == {"broker-a": (4, 6)}
    assert registry.master_of(slave) == ("broker-a:10912", "broker-a:10911")
    assert registry.master_of(registration()) is None
    registry.register(registration(broker_id=2, broker_addr="slave:1", topics={}), None, 0)
    assert addrs(registry) == {"broker-a": {0: "broker-a:10911", 2: "slave:1"}}
    registry.unregister("DefaultCluster", "broker-a", "broker-a:10911")
    assert addrs(registry) == {"broker-a": {2: "slave:1"}}
    assert registry.master_of(slave) is None


def test_first_slave_without_a_master_may_act_for_it() -> None:
    """Its queues are known, and not writable."""
    registry = Registry()
    registry.register(registration(broker_id=1, enable_acting_master=True), None, 0)
    assert queues(registry) == {"broker-a": (4, 4)}


def test_first_slave_registration_with_one_topic_is_refused_too() -> None:
    """It is the place that must be new, not the name; the master stays."""
    registry = Registry()
    registry.register(registration(), None, 0)
    assert not registry.register(registration(broker_id=1, broker_addr="slave:1", topics={"T": 4}), None, 0)
    assert addrs(registry) == {"broker-a": {0: "broker-a:10911"}}


def test_broker_that_moves_to_another_cluster() -> None:
    """Nobody defends a place whose holder is known under another cluster."""
    registry = Registry()
    registry.register(registration(data_version=DataVersion(timestamp=1, state_version=9)), None, 0)
    assert registry.register(registration(cluster_name="Other", broker_addr="new:1"), None, 0)
    assert addrs(registry) == {"broker-a": {0: "new:1"}}
