"""The scenarios of the producer suite against a simulated cluster of two brokers, in every world.

The interop tests run the same scenarios against real brokers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from broker_sim import BrokerConfig, Cluster
from rocketmq_aio.codes import RequestCode, ResponseCode, SerializeType
from rocketmq_aio.environment import Environment
from rocketmq_aio.wire.bodies import TopicRouteData, decode_json
from rocketmq_aio.wire.stored import StoredMessage, decode_many
from tests.sim.peers import WORLDS
from tests.support.producer_suite import SCENARIOS, Stored, Target
from tests.support.raw_client import RawClient

Scenario = Callable[[Target], Awaitable[None]]

SUBSCRIPTION_FLAG = 4


class SimulatorTarget:
    """A simulated cluster; it is read as any client would read it."""

    prefix = "Suite"
    not_stored: frozenset[str] = frozenset()

    def __init__(self, cluster: Cluster, environment: Environment) -> None:
        self.namesrv = cluster.namesrv
        self.environment: Environment | None = environment
        self._cluster = cluster
        self._reader = environment

    async def create_topic(self, name: str, queues: int) -> None:
        """Create a topic on all brokers."""
        self._cluster.create_topic(name, queues=queues)

    async def read_back(self, topic: str, count: int) -> Stored:
        """Pull a topic. There is nothing to wait for: the simulator shows what it has acknowledged or read."""
        async with RawClient(self._reader, self.namesrv) as client:
            reply = await client.call(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": topic})
        assert reply.code == ResponseCode.SUCCESS, reply.remark
        route = decode_json(TopicRouteData, reply.body)
        masters = {broker.broker_name: broker.broker_addrs[0] for broker in route.broker_datas}
        stored: dict[tuple[str, int], list[StoredMessage]] = {}
        for data in route.queue_datas:
            async with RawClient(self._reader, masters[data.broker_name]) as client:
                for queue_id in range(data.read_queue_nums):
                    stored[data.broker_name, queue_id] = await _pull_queue(client, topic, queue_id)
        assert sum(map(len, stored.values())) >= count
        return stored


async def _pull_queue(client: RawClient, topic: str, queue_id: int) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    fields = {
        "consumerGroup": "reader", "topic": topic, "queueId": queue_id, "maxMsgNums": 32, "sysFlag": SUBSCRIPTION_FLAG,
        "commitOffset": 0, "suspendTimeoutMillis": 0, "subscription": "*", "subVersion": 0, "expressionType": "TAG",
    }  # fmt: skip
    while True:
        reply = await client.call(RequestCode.PULL_MESSAGE, fields | {"queueOffset": len(found)})
        if reply.code == ResponseCode.PULL_NOT_FOUND:
            return found
        assert reply.code == ResponseCode.SUCCESS, reply.remark
        records = decode_many(reply.body)
        assert reply.ext_fields is not None
        assert int(reply.ext_fields["nextBeginOffset"]) == len(found) + len(records)
        found += records


def run_scenario(world: str, scenario: Scenario, brokers: list[BrokerConfig]) -> None:
    """Run a scenario against a new cluster."""

    async def main(environment: Environment) -> None:
        async with Cluster(brokers=brokers, environment=environment) as cluster:
            await scenario(SimulatorTarget(cluster, environment))

    WORLDS[world](main)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("world", WORLDS)
def test_scenario(world: str, scenario: Scenario) -> None:
    """The scenario holds against two simulated brokers."""
    run_scenario(world, scenario, [BrokerConfig(), BrokerConfig()])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario_with_binary_answers(scenario: Scenario) -> None:
    """The scenario holds against a broker that answers with binary headers."""
    run_scenario("virtual", scenario, [BrokerConfig(serialize_type=SerializeType.ROCKETMQ)])
