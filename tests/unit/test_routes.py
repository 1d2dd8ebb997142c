"""Snapshots of routes: which queues take messages, in which order, and when two snapshots are the same."""

from __future__ import annotations

import itertools

import pytest

from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.message import MessageQueue
from rocketmq_aio.routes import QUEUES_MAX, TopicRoute, topic_route
from rocketmq_aio.wire.bodies import BrokerData, QueueData, TopicRouteData

READ, WRITE, READ_WRITE = 4, 2, 6


def queues(broker: str, *ids: int) -> tuple[MessageQueue, ...]:
    """Queues of topic T at one broker."""
    return tuple(MessageQueue("T", broker, queue_id) for queue_id in ids)


def broker(name: str, addrs: dict[int, str]) -> BrokerData:
    """A broker by its ids; 0 is the master."""
    return BrokerData(cluster="c", broker_name=name, broker_addrs=addrs)


def queue_data(name: str, count: int, perm: int = READ_WRITE, read: int = 16) -> QueueData:
    """A broker's queues of the topic."""
    return QueueData(broker_name=name, read_queue_nums=read, write_queue_nums=count, perm=perm)


def test_queues_are_those_that_take_messages() -> None:
    """Each writable queue of each broker with a master, by broker name and queue id; reading says nothing."""
    route = topic_route(
        "T",
        TopicRouteData(
            broker_datas=[broker("b", {0: "10.0.0.2:1", 1: "10.0.0.3:1"}), broker("a", {0: "10.0.0.1:1"})],
            queue_datas=[queue_data("b", 3, WRITE), queue_data("a", 2, read=1)],
        ),
    )
    assert route == TopicRoute("T", queues("a", 0, 1) + queues("b", 0, 1, 2), {"a": "10.0.0.1:1", "b": "10.0.0.2:1"})


@pytest.mark.parametrize(
    ("brokers", "queue_datas", "masters"),
    [
        ([broker("a", {0: "h:1"})], [queue_data("a", 4, READ)], {"a": "h:1"}),
        ([broker("a", {0: "h:1"})], [queue_data("a", 4, 0)], {"a": "h:1"}),
        ([broker("a", {0: "h:1"})], [queue_data("a", 0)], {"a": "h:1"}),
        ([broker("a", {1: "h:1"})], [queue_data("a", 4)], {}),
        ([broker("a", {})], [queue_data("a", 4)], {}),
        ([broker("other", {0: "h:1"})], [queue_data("a", 4)], {"other": "h:1"}),
        ([broker("a", {0: "h:1"})], [], {"a": "h:1"}),
        ([], [queue_data("a", 4)], {}),
        ([], [], {}),
    ],
    ids=[
        "read only", "no permission", "no queue", "slave only", "no address", "unknown broker", "brokers only",
        "queues only", "nothing",
    ],
)  # fmt: skip
def test_what_takes_no_message_is_left_out(
    brokers: list[BrokerData], queue_datas: list[QueueData], masters: dict[str, str]
) -> None:
    """Queues without permission to write, without a master or without a broker; masters stay, for the error text."""
    data = TopicRouteData(broker_datas=brokers, queue_datas=queue_datas)
    assert topic_route("T", data) == TopicRoute("T", (), masters)


def test_the_order_of_an_answer_does_not_matter() -> None:
    """Name servers list brokers in any order; a snapshot is the same, so that nothing changes for nothing."""
    brokers = [broker(name, {0: f"{name}:1"}) for name in "abc"]
    all_queues = [queue_data(name, count) for name, count in (("a", 1), ("b", 2), ("c", 3))]
    routes = [
        topic_route("T", TopicRouteData(broker_datas=list(some), queue_datas=list(others)))
        for some in itertools.permutations(brokers)
        for others in itertools.permutations(all_queues)
    ]
    assert all(route == routes[0] and route.queues == routes[0].queues for route in routes)
    assert len(routes[0].queues) == 6


@pytest.mark.parametrize(
    "changed",
    [
        TopicRouteData(broker_datas=[broker("a", {0: "h:2"})], queue_datas=[queue_data("a", 2)]),
        TopicRouteData(broker_datas=[broker("a", {0: "h:1"})], queue_datas=[queue_data("a", 3)]),
        TopicRouteData(broker_datas=[broker("a", {0: "h:1"})], queue_datas=[queue_data("a", 2, READ)]),
    ],
    ids=["address", "count", "permission"],
)
def test_a_change_that_matters_makes_another_snapshot(changed: TopicRouteData) -> None:
    """A failover keeps the name and changes the address."""
    before = TopicRouteData(broker_datas=[broker("a", {0: "h:1"})], queue_datas=[queue_data("a", 2)])
    assert topic_route("T", before) == topic_route("T", before)
    assert topic_route("T", before) != topic_route("T", changed)


def test_the_answer_is_not_changed() -> None:
    """A snapshot shares nothing with what it was made of."""
    data = TopicRouteData(
        broker_datas=[broker("b", {0: "h:1"}), broker("a", {0: "h:2"})],
        queue_datas=[queue_data("b", 1), queue_data("a", 1)],
    )
    route = topic_route("T", data)
    assert [item.broker_name for item in data.broker_datas] == ["b", "a"]
    data.broker_datas[0].broker_addrs[0] = "changed:1"
    assert route.master_addrs == {"a": "h:2", "b": "h:1"}
    with pytest.raises(AttributeError):
        route.queues = ()


@pytest.mark.parametrize("counts", [(-1,), (QUEUES_MAX + 1,), (2**31 - 1,), (QUEUES_MAX, 1), (10, -1)])
def test_a_claim_of_too_many_queues_is_refused(counts: tuple[int, ...]) -> None:
    """The bytes are a stranger's: a few of them must not become millions of objects, in one claim or in many."""
    data = TopicRouteData(
        broker_datas=[broker("a", {0: "h:1"})], queue_datas=[queue_data("a", count) for count in counts]
    )
    words = rf"'a' claims {counts[-1]:,} queues of 'T'.* the limit is 0 to 65,536"
    with pytest.raises(LocalProtocolError, match=words):
        topic_route("T", data)


def test_the_largest_topic_is_accepted() -> None:
    """At the limit, shared by several brokers."""
    data = TopicRouteData(
        broker_datas=[broker(name, {0: "h:1"}) for name in "ab"],
        queue_datas=[queue_data("a", QUEUES_MAX - 1), queue_data("b", 1)],
    )
    assert len(topic_route("T", data).queues) == QUEUES_MAX
