"""A simulated name server: routes in both dialects, registrations as Java's brokers send them, and what ends them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest

from broker_sim.cluster import Cluster
from broker_sim.registrar import register_command
from broker_sim.requests.registry import Registration
from broker_sim.worlds.runner import run_virtual
from rocketmq_aio.codes import RequestCode
from rocketmq_aio.environment import Environment
from rocketmq_aio.wire.bodies import (
    DataVersion,
    RegisterBrokerBody,
    TopicConfig,
    TopicConfigAndMappingSerializeWrapper,
    encode_json,
    encode_register_compressed,
)
from rocketmq_aio.wire.frame import RemotingCommand
from tests.support.raw_client import RawClient

TRAFFIC = Path(__file__).parents[1] / "golden" / "traffic"


def with_name_server(main: Any, **options: Any) -> None:
    """Run `main(cluster, client)` in virtual time, with a connection to the first name server."""

    async def run(environment: Environment) -> None:
        async with Cluster(environment=environment, **options) as cluster:
            async with RawClient(environment, cluster.namesrv.partition(";")[0]) as client:
                await main(cluster, client)

    run_virtual(run)


async def route(client: RawClient, topic: str = "T", **options: Any) -> RemotingCommand:
    return await client.call(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": topic}, **options)


def header(**changes: Any) -> dict[str, Any]:
    return {
        "brokerName": "broker-x", "brokerAddr": "10.0.0.1:10911", "clusterName": "DefaultCluster", "brokerId": 0,
        "haServerAddr": "10.0.0.1:10912", "compressed": "false", "enableActingMaster": "false",
    } | changes  # fmt: skip


def body(*topics: str, version: int = 1) -> RegisterBrokerBody:
    table = {name: TopicConfig(name, 2, 2) for name in topics or ("X", "Y")}
    return RegisterBrokerBody(TopicConfigAndMappingSerializeWrapper(table, DataVersion(timestamp=version)))


async def register(
    client: RawClient, data: bytes | None = None, *, version: int = 479, **changes: Any
) -> RemotingCommand:
    return await client.call(
        RequestCode.REGISTER_BROKER, header(**changes), encode_json(body()) if data is None else data, version=version
    )


@pytest.mark.parametrize(
    ("version", "standard", "quoted"),
    [
        (479, None, True), (401, None, True), (400, None, False), (0, None, False), (400, "true", True),
        (479, "false", True),
    ],
)  # fmt: skip
def test_dialects_of_routes(version: int, standard: str | None, quoted: bool) -> None:
    """Clients of 4.9.4 or later, and those that ask for it, get standard JSON; others bare ids. Both are compact."""

    async def main(cluster: Cluster, client: RawClient) -> None:
        fields = {"topic": "T", "acceptStandardJsonOnly": standard}
        answer = await client.call(RequestCode.GET_ROUTEINFO_BY_TOPIC, fields, version=version)
        address = cluster.broker("broker-a").address.encode()
        key = b'"0"' if quoted else b"0"
        assert (answer.code, answer.ext_fields, answer.version) == (0, None, 479)
        assert answer.body == (
            b'{"brokerDatas":[{"brokerAddrs":{' + key + b':"' + address + b'"},"brokerName":"broker-a",'
            b'"cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":'
            b'[{"brokerName":"broker-a","perm":6,"readQueueNums":3,"topicSysFlag":0,"writeQueueNums":3}]}'
        )

    with_name_server(main, topics={"T": 3})


ROUTES = map(msgspec.json.decode, (TRAFFIC / "5.3.3-route.jsonl").read_bytes().splitlines())
CAPTURED = {line["seq"]: line for line in ROUTES}
QUESTIONS = [line for line in CAPTURED.values() if line["kind"] == "request" and line["code"] == 105]


@pytest.mark.parametrize("captured", QUESTIONS, ids=lambda line: f"{line['session']}-{line['seq']}")
def test_captured_questions(captured: dict[str, Any]) -> None:
    """Each question that was captured on its way to a 5.3.3 name server has an answer of the same kind."""
    expected = CAPTURED[captured["pair"]]

    async def main(_: Cluster, client: RawClient) -> None:
        answer = await client.call(
            captured["code"], captured["extFields"], version=captured["version"],
            serialize_type=captured["serialize"] == "ROCKETMQ",
        )  # fmt: skip
        assert (answer.code, answer.ext_fields, bool(answer.body)) == (
            expected["code"], expected["extFields"], expected["body_length"] > 0,
        )  # fmt: skip
        assert (expected["remark"] or "").startswith(answer.remark or "")

    with_name_server(main, topics={"VecTopic": 4})


def test_unknown_topics() -> None:
    """A topic without a route is an error that names it; a request without a topic as well."""

    async def main(_: Cluster, client: RawClient) -> None:
        answer = await route(client, "NoTopic")
        assert (answer.code, answer.body) == (17, b"")
        assert answer.remark == "No topic route info in name server for the topic: NoTopic"
        answer = await client.call(RequestCode.GET_ROUTEINFO_BY_TOPIC)
        assert (answer.code, answer.remark) == (17, "No topic route info in name server for the topic: null")

    with_name_server(main)


def test_unknown_requests() -> None:
    """What it does not serve it says."""

    async def main(_: Cluster, client: RawClient) -> None:
        answer = await client.call(RequestCode.SEND_MESSAGE_V2)
        assert (answer.code, answer.remark) == (3, " request type 310 not supported")

    with_name_server(main)


@pytest.mark.parametrize("form", ["plain", "compressed", "checked", "old"])
def test_registration_of_a_foreign_broker(form: str) -> None:
    """Plain, compressed and checksummed bodies are read, and the bare topics of old brokers."""

    async def main(_: Cluster, client: RawClient) -> None:
        plain = encode_json(body())
        wrapper = encode_json(body().topic_config_serialize_wrapper)
        answer = await {
            "plain": lambda: register(client),
            "compressed": lambda: register(client, encode_register_compressed(body(), 479), compressed="true"),
            "checked": lambda: register(client, plain, bodyCrc32=crc32(plain) & 0x7FFFFFFF),
            "old": lambda: register(client, wrapper, version=36),
        }[form]()
        assert (answer.code, answer.ext_fields, answer.body) == (0, {}, b"")
        found = await route(client, "X")
        assert b'"brokerAddrs":{"0":"10.0.0.1:10911"},"brokerName":"broker-x"' in found.body

    with_name_server(main)


@pytest.mark.parametrize(
    ("changes", "data", "remark"),
    [
        ({"bodyCrc32": 5}, None, "crc32 not match"),
        ({"brokerId": None}, None, "java.lang.NullPointerException: the registration lacks"),
        ({"brokerName": None}, None, "java.lang.NullPointerException: the registration lacks"),
        ({}, encode_json(body("X")), "register broker failed"),
        ({}, b"garbage", "LocalProtocolError: A body of 7 bytes cannot be read"),
    ],
    ids=["checksum", "no-id", "no-name", "one-topic", "garbage"],
)
def test_refused_registrations(changes: dict[str, Any], data: bytes | None, remark: str) -> None:
    """A registration that cannot be taken is an error and leaves no trace."""

    async def main(_: Cluster, client: RawClient) -> None:
        answer = await register(client, data, **changes)
        assert answer.code == 1
        assert (answer.remark or "").startswith(remark)
        assert (await route(client, "X")).code == 17

    with_name_server(main)


def test_slaves_are_told_of_their_master() -> None:
    """The answer to a slave has both addresses of its master; a registration without a body registers no topics."""

    async def main(_: Cluster, client: RawClient) -> None:
        await register(client)
        answer = await register(client, b"", brokerId=1, brokerAddr="10.0.0.2:10911")
        assert answer.ext_fields == {"haServerAddr": "10.0.0.1:10912", "masterAddr": "10.0.0.1:10911"}

    with_name_server(main)


def test_unregistering() -> None:
    """A broker that says that it leaves is gone from the routes."""

    async def main(_: Cluster, client: RawClient) -> None:
        await register(client)
        assert (await client.call(RequestCode.UNREGISTER_BROKER, header())).code == 0
        assert (await route(client, "X")).code == 17

    with_name_server(main)


def test_query_data_version() -> None:
    """The answer says whether the tables differ, and has the version that is known."""

    async def main(_: Cluster, client: RawClient) -> None:
        async def query(version: int) -> tuple[dict[str, str] | None, bytes]:
            answer = await client.call(
                RequestCode.QUERY_DATA_VERSION, header(), encode_json(DataVersion(timestamp=version))
            )
            return answer.ext_fields, answer.body

        known = b'{"counter":0,"stateVersion":0,"timestamp":1}'
        assert await query(1) == ({"changed": "true"}, b"")
        await register(client)
        assert await query(1) == ({"changed": "false"}, known)
        assert await query(2) == ({"changed": "true"}, known)

    with_name_server(main)


def test_lost_connection_ends_a_registration() -> None:
    """When a broker's connection closes, its routes are gone a moment later."""

    async def main(cluster: Cluster, client: RawClient) -> None:
        async with RawClient(cluster.environment, cluster.namesrv) as other:
            await register(other)
            assert (await route(client, "X")).code == 0
        await route(client)  # by then the name server knows
        assert (await route(client, "X")).code == 17
        assert (await route(client, "T")).code == 0

    with_name_server(main, topics=["T"])


def test_silent_broker_is_dropped() -> None:
    """A broker that does not register again is dropped after the time that it gave, and its connection closed."""

    async def main(cluster: Cluster, client: RawClient) -> None:
        async with RawClient(cluster.environment, cluster.namesrv) as other:
            await register(other, heartbeatTimeoutMillis=10_000)
            await asyncio.sleep(9)
            assert (await route(client, "X")).code == 0
            await asyncio.sleep(7)
            assert (await route(client, "X")).code == 17
            await other.lost

    with_name_server(main)


def test_brokers_register_as_java_does() -> None:
    """The frame of a simulated broker has the fields and members of a captured one; it comes again and again."""

    async def main(cluster: Cluster, _: RawClient) -> None:
        await asyncio.sleep(100)
        times = [exchange.received_at for exchange in cluster.requests(RequestCode.REGISTER_BROKER)]
        assert [round(at) for at in times] == [0, 10, 40, 70, 100][: len(times)] and len(times) >= 4
        sent = cluster.requests(RequestCode.REGISTER_BROKER)[0].request
        lines = map(msgspec.json.decode, (TRAFFIC / "5.3.3-registration.jsonl").read_bytes().splitlines())
        captured = next(line for line in lines if line["code"] == RequestCode.REGISTER_BROKER)
        assert sent.ext_fields is not None
        assert sent.ext_fields.keys() == captured["extFields"].keys()
        assert int(sent.ext_fields["bodyCrc32"]) == crc32(sent.body) & 0x7FFFFFFF
        members = msgspec.json.decode(sent.body)
        assert members["topicConfigSerializeWrapper"]["topicConfigTable"].keys() == {
            "TBW102", "DefaultCluster", "broker-a", "T",
        }  # fmt: skip

    with_name_server(main, topics=["T"])


def test_topic_changes_are_told_at_once_and_alone() -> None:
    """A new topic is announced in a registration that has nothing else."""

    async def main(cluster: Cluster, client: RawClient) -> None:
        cluster.create_topic("New")
        await route(client)
        sent = cluster.requests(RequestCode.REGISTER_BROKER)[-1]
        table = msgspec.json.decode(sent.request.body)["topicConfigSerializeWrapper"]["topicConfigTable"]
        assert table.keys() == {"New"}
        assert sent.reply is not None and sent.reply.code == 0

    with_name_server(main)


def test_register_command_leaves_room_for_nothing_else() -> None:
    """The command of a registration is what a name server reads back."""
    registration = Registration(
        cluster_name="c", broker_name="b", broker_id=0, broker_addr="h:1", topics={"A": TopicConfig("A", 1, 2)},
        data_version=DataVersion(timestamp=5, counter=6),
    )  # fmt: skip
    members = msgspec.json.decode(register_command(registration).body)["topicConfigSerializeWrapper"]
    assert members["dataVersion"] == {"counter": 6, "stateVersion": 0, "timestamp": 5}
    assert members["topicConfigTable"]["A"] == {
        "attributes": {}, "order": False, "perm": 6, "readQueueNums": 1, "topicFilterType": "SINGLE_TAG",
        "topicName": "A", "topicSysFlag": 0, "writeQueueNums": 2,
    }  # fmt: skip
