"""Topics of a simulated broker: created by clients, and by sends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker_sim.config import BrokerConfig
from rocketmq_aio.codes import RequestCode
from rocketmq_aio.wire.batch import encode_batch
from rocketmq_aio.wire.bodies import TopicConfig
from tests.support.brokers import Broker, with_broker
from tests.support.raw_client import RawClient


def topic_fields(**changes: Any) -> dict[str, Any]:
    return {
        "topic": "New", "defaultTopic": "TBW102", "readQueueNums": 2, "writeQueueNums": 3, "perm": 6,
        "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": "false", "attributes": "",
    } | changes  # fmt: skip


def test_topic_created_by_a_client() -> None:
    """The broker has it when the answer comes, and the name server a moment later; attributes are kept."""

    async def main(broker: Broker) -> None:
        code = RequestCode.UPDATE_AND_CREATE_TOPIC
        answer = await broker.call(code, topic_fields(attributes="+message.type=FIFO,+reserve.time=3"))
        assert (answer.code, answer.ext_fields) == (0, None)
        assert (await broker.send(b="New", e="2")).code == 0
        async with RawClient(broker.cluster.environment, broker.cluster.namesrv) as client:
            route = await client.call(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": "New"})
            assert b'"readQueueNums":2,"topicSysFlag":0,"writeQueueNums":3' in route.body
        assert (await broker.call(code, topic_fields(attributes="-reserve.time"))).code == 0
        topics = broker.cluster._servers.brokers["broker-a"].state.topics
        version = topics.version
        assert (await broker.call(code, topic_fields())).code == 0
        assert topics.version == version  # nothing has changed
        config = topics.get("New")
        assert config is not None and config.attributes == {"message.type": "FIFO"}

    with_broker(main)


@pytest.mark.parametrize(
    ("changes", "code", "remark"),
    [
        ({"topic": "t" * 128}, 29, "The specified topic is longer than topic max length."),
        ({"topic": "TBW102"}, 29, "The topic[TBW102] is conflict with system topic."),
        ({"topic": None}, 29, "The specified topic is blank."),
        ({"topicFilterType": "SOME"}, 1, "topicFilterType = [SOME] value invalid"),
        ({"perm": None}, 1, "java.lang.NullPointerException: the request has no readQueueNums, writeQueueNums or perm"),
        ({"attributes": "message.type=FIFO"}, 1, "add/alter attribute format is wrong: message.type=FIFO"),
    ],
    ids=["name", "system-topic", "no-name", "filter-type", "mandatory", "attributes"],
)
def test_topics_that_cannot_be_created(changes: dict[str, Any], code: int, remark: str) -> None:
    """Each is refused with the broker's code and words."""

    async def main(broker: Broker) -> None:
        answer = await broker.call(RequestCode.UPDATE_AND_CREATE_TOPIC, topic_fields(**changes))
        assert (answer.code, answer.remark) == (code, remark)

    with_broker(main)


@pytest.mark.parametrize(
    ("changes", "code", "wanted"),
    [
        ({}, 0, TopicConfig("New", 4, 4, 6)),
        ({"d": 9, "e": 7}, 0, TopicConfig("New", 8, 8, 6)),
        ({"d": 2}, 29, TopicConfig("New", 2, 2, 6)),
        ({"d": -1, "e": 0}, 29, TopicConfig("New", 0, 0, 6)),
        ({"k": "true"}, 0, TopicConfig("New", 4, 4, 6, topic_sys_flag=1)),
        ({"c": "DefaultCluster", "d": 20, "e": 15}, 0, TopicConfig("New", 16, 16, 6)),
        ({"c": "T"}, 17, None),
        ({"c": "None"}, 17, None),
        ({"c": None}, 1, None),
        ({"d": None}, 1, None),
        ({"b": "New topic"}, 29, None),
        ({"b": "%RETRY%New", "c": "None", "e": 0}, 0, TopicConfig("%RETRY%New", 1, 1, 6)),
        ({"b": "%RETRY%New", "c": "None", "k": "true"}, 29, TopicConfig("%RETRY%New", 1, 1, 6, topic_sys_flag=2)),
    ],
    ids=repr,
)
def test_send_creates_its_topic(changes: dict[str, Any], code: int, wanted: TopicConfig | None) -> None:
    """It is made after the example that the send names, if that may be; also when the send is refused afterwards."""
    name = changes.get("b", "New")

    async def main(broker: Broker) -> None:
        known = broker.cluster.broker("broker-a").store.topics().keys()
        answer = await broker.send(b"x", **({"b": "New"} | changes))
        state = broker.cluster._servers.brokers["broker-a"].state
        assert (answer.code, state.topics.get(name)) == (code, wanted)
        assert state.topics.all().keys() - known == ({name} if wanted else set())
        assert len(broker.cluster.messages(name)) == (code == 0)
        await asyncio.sleep(1)  # the name server hears of it at once, and not with the next registration
        async with RawClient(broker.cluster.environment, broker.cluster.namesrv) as client:
            route = await client.call(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": name})
        assert (route.code == 0) == (wanted is not None)

    with_broker(main)


def test_batch_creates_its_topic_too() -> None:
    """Batches are admitted as single messages are."""

    async def main(broker: Broker) -> None:
        body = encode_batch([(0, b"x", ""), (0, b"y", "")])
        answer = await broker.send(body, code=RequestCode.SEND_BATCH_MESSAGE, b="New", m="true")
        assert answer.code == 0
        assert [message.body for message in broker.cluster.messages("New")] == [b"x", b"y"]

    with_broker(main)


def test_topics_that_sends_do_not_create() -> None:
    """Without auto-creation there is no TBW102, neither to send after nor to find a route by."""

    async def main(broker: Broker) -> None:
        answer = await broker.send(b"x", b="New")
        assert (answer.code, "New" in broker.cluster.broker("broker-a").store.topics()) == (17, False)
        async with RawClient(broker.cluster.environment, broker.cluster.namesrv) as client:
            assert (await client.call(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": "TBW102"})).code == 17
        assert (await broker.send(b"x")).code == 0

    with_broker(main, brokers=[BrokerConfig(auto_create_topics=False)])
