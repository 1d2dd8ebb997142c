"""A cluster from Python: opened in a loop or in a thread, changed, looked into, closed."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from broker_sim.cluster import Cluster
from broker_sim.config import BrokerConfig
from broker_sim.worlds.memory import MemoryNetwork
from broker_sim.worlds.runner import run_virtual
from rocketmq_aio.codes import Permission, RequestCode
from rocketmq_aio.environment import Environment
from rocketmq_aio.errors import StateError
from rocketmq_aio.wire.bodies import TopicRouteData, decode_json
from tests.support.brokers import send_fields
from tests.support.raw_client import RawClient
from tests.support.servers import Server, reply
from tests.support.worlds import WORLDS, run_in

SEND = RequestCode.SEND_MESSAGE_V2


async def route(cluster: Cluster, topic: str, name_server: int = 0) -> dict[str, str]:
    """Broker name → address, as one name server tells it."""
    async with RawClient(cluster.environment, cluster.namesrv.split(";")[name_server]) as client:
        answer = await client.call(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": topic})
    if answer.code:
        return {}
    data = decode_json(TopicRouteData, answer.body)
    assert {queue.broker_name for queue in data.queue_datas} == {broker.broker_name for broker in data.broker_datas}
    return {broker.broker_name: broker.broker_addrs[0] for broker in data.broker_datas}


async def send(cluster: Cluster, body: bytes, broker: str = "broker-a", **changes: Any) -> int:
    async with RawClient(cluster.environment, cluster.broker(broker).address) as client:
        return (await client.call(SEND, send_fields(**changes), body)).code


def in_virtual_time(main: Callable[[Cluster], Awaitable[None]], *, seed: int = 0, **options: Any) -> None:
    async def run(environment: Environment) -> None:
        async with Cluster(environment=environment, **options) as cluster:
            await main(cluster)

    run_virtual(run, seed=seed)


@pytest.mark.parametrize("world", WORLDS)
def test_a_message_through_a_cluster(world: str) -> None:
    """In every world: route, send, look; two brokers and two name servers know of each other."""

    async def main(environment: Environment) -> None:
        async with Cluster(brokers=2, name_servers=2, topics={"T": 4}, environment=environment) as cluster:
            for name_server in range(2):
                assert await route(cluster, "T", name_server) == cluster.broker_addresses()
            assert await send(cluster, b"a") == await send(cluster, b"b", "broker-b") == 0
            assert [(one.body, one.queue.broker_name) for one in cluster.messages("T")] == [
                (b"a", "broker-a"), (b"b", "broker-b"),
            ]  # fmt: skip
            assert [one.body for one in cluster.messages("T", broker="broker-b", queue=2)] == [b"b"]
            assert cluster.messages("T", queue=3) == cluster.messages("X") == []
            assert cluster.broker("broker-b").store.max_offset("T", 2) == 1
            assert cluster.broker("broker-b").store.messages("T", 2) == cluster.messages("T", broker="broker-b")
            assert cluster.broker("broker-a").store.topics() == {
                "TBW102": 8, "DefaultCluster": 16, "broker-a": 1, "T": 4,
            }  # fmt: skip
            assert cluster.broker("broker-a").running and cluster.name_server(1).running
            assert f"{cluster.name_server(0).address};{cluster.name_server(1).address}" == cluster.namesrv

    run_in(world, main)


def test_nothing_is_left_behind() -> None:
    """After the end every connection is gone, also those of clients that are still there, and nothing runs any more."""

    async def main(environment: Environment) -> None:
        assert isinstance(environment.network, MemoryNetwork)
        async with Cluster(environment=environment, brokers=2) as cluster:
            client = RawClient(environment, cluster.namesrv)
            await client.__aenter__()
        await client.lost
        await asyncio.sleep(0)
        assert environment.network.open_ends == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main)


def test_cluster_in_a_thread() -> None:
    """Under a plain `with` the same methods work from any thread, and clients of other loops reach it."""
    with Cluster(topics=["T"]) as cluster:
        assert asyncio.run(send(cluster, b"one")) == 0
        bodies: list[list[bytes]] = []

        def look() -> None:
            bodies.append([message.body for message in cluster.messages("T")])

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bodies == [[b"one"]] * 4
        assert cluster.environment is not cluster.environment
        cluster.create_topic("U")
        assert asyncio.run(route(cluster, "U")) == cluster.broker_addresses()
        assert {exchange.code for exchange in cluster.requests()} >= {RequestCode.REGISTER_BROKER, SEND}


def test_stopping_and_starting_in_a_thread() -> None:
    """`stop` and `start` are done when they return, and awaiting what they return is fine too."""
    with Cluster(topics=["T"]) as cluster:
        broker = cluster.broker("broker-a")
        broker.stop()
        assert not broker.running
        assert asyncio.run(route(cluster, "T")) == {}

        async def start() -> None:
            await broker.start()
            await cluster.name_server().stop()
            await cluster.name_server().start()

        asyncio.run(start())
        assert asyncio.run(route(cluster, "T")) == {"broker-a": broker.address}


def test_exit_does_not_wait_for_peers() -> None:
    """Clients that are silent, that do not read or that sit in the middle of a frame hold nothing up."""
    with Cluster() as cluster:
        host, port = cluster.namesrv.split(":")
        peers = [socket.create_connection((host, int(port))) for _ in range(3)]
        peers[1].sendall(b"\0\0\1\0\0\0\0\10half")
    for peer in peers:
        peer.close()


@pytest.mark.parametrize("world", WORLDS)
def test_created_topic_is_visible_at_once(world: str) -> None:
    """When `create_topic` returns, the brokers and every name server know the topic."""

    async def main(environment: Environment) -> None:
        async with Cluster(brokers=3, name_servers=2, environment=environment) as cluster:
            cluster.create_topic("T", queues=7)
            for name_server in range(2):
                assert await route(cluster, "T", name_server) == cluster.broker_addresses()
            cluster.create_topic("U", brokers=["broker-b"], permission=Permission.READ)
            assert await route(cluster, "U", 1) == {"broker-b": cluster.broker_addresses()["broker-b"]}
            assert await send(cluster, b"x", e="6") == 0
            assert await send(cluster, b"x", b="U", c="None") == 17
            cluster.create_topic("T", queues=2)
            assert await send(cluster, b"x", e="6") == 29

    run_in(world, main)


def test_topic_that_is_not_propagated() -> None:
    """With propagate=False the broker takes messages, and the name server learns of it with the next registration."""

    async def main(cluster: Cluster) -> None:
        cluster.create_topic("T", propagate=False)
        assert await send(cluster, b"x") == 0
        assert await route(cluster, "T") == {}
        await asyncio.sleep(31)
        assert await route(cluster, "T") == cluster.broker_addresses()

    in_virtual_time(main)


def test_a_later_announcement_does_not_hide_what_was_kept_back() -> None:
    """A change with propagate=False reaches the name server in 30 s, also when another topic is announced meanwhile."""

    async def main(cluster: Cluster) -> None:
        cluster.create_topic("A", queues=4)
        cluster.create_topic("A", queues=8, propagate=False)
        cluster.create_topic("B")
        registry = cluster._servers.name_servers[0].registry
        assert registry.route("A").queue_datas[0].write_queue_nums == 4
        await asyncio.sleep(31)
        assert registry.route("A").queue_datas[0].write_queue_nums == 8

    in_virtual_time(main)


@pytest.mark.parametrize("world", WORLDS)
def test_broker_stops_and_starts(world: str) -> None:
    """A stopped broker has no route and no port; started again it is at the same address, with its messages."""

    async def main(environment: Environment) -> None:
        async with Cluster(brokers=2, topics=["T"], environment=environment) as cluster:
            broker = cluster.broker("broker-a")
            address = broker.address
            assert await send(cluster, b"kept") == 0
            async with RawClient(environment, address) as client:
                await broker.stop()
                await client.lost
            await broker.stop()
            assert set(await route(cluster, "T")) == {"broker-b"}
            with pytest.raises(ConnectionRefusedError):
                await send(cluster, b"lost")
            cluster.create_topic("U")
            assert set(await route(cluster, "U")) == {"broker-b"}
            await broker.start()
            await broker.start()
            assert broker.address == address
            assert set(await route(cluster, "T")) == set(await route(cluster, "U")) == {"broker-a", "broker-b"}
            assert [message.body for message in broker.store.messages("T")] == [b"kept"]
            assert RequestCode.UNREGISTER_BROKER in {exchange.code for exchange in cluster.requests()}

    run_in(world, main)


@pytest.mark.parametrize("world", WORLDS)
def test_name_server_stops_and_starts(world: str) -> None:
    """While it is stopped nobody answers; started again it knows the brokers that run."""

    async def main(environment: Environment) -> None:
        async with Cluster(brokers=2, topics=["T"], environment=environment) as cluster:
            await cluster.name_server(0).stop()
            with pytest.raises(ConnectionRefusedError):
                await route(cluster, "T")
            cluster.create_topic("U")
            await cluster.broker("broker-a").stop()
            await cluster.name_server(0).start()
            assert set(await route(cluster, "U")) == {"broker-b"}
            await cluster.broker("broker-a").start()
            assert set(await route(cluster, "U")) == {"broker-a", "broker-b"}

    run_in(world, main)


def test_idle_connections_are_closed() -> None:
    """A connection that is silent for two minutes is closed; one that asks or is answered is not."""

    async def main(cluster: Cluster) -> None:
        async with RawClient(cluster.environment, cluster.broker("broker-a").address) as idle:
            async with RawClient(cluster.environment, cluster.broker("broker-a").address) as busy:
                loop = asyncio.get_running_loop()
                started = loop.time()
                for _ in range(3):
                    await asyncio.sleep(60)
                    assert (await busy.call(RequestCode.HEART_BEAT, {}, b'{"clientID":"x"}')).code == 0
                await idle.lost
                lost: list[float] = []
                busy.lost.add_done_callback(lambda _: lost.append(loop.time() - started))
                await asyncio.sleep(119)
                assert not lost
                await busy.lost
                assert 300 <= lost[0] <= 302

    in_virtual_time(main)


def test_equal_runs_have_equal_digests() -> None:
    """The same program and seed give the same history; another instant, message or seed give another."""

    def digest(body: bytes = b"x", pause: float = 0.5, seed: int = 1) -> str:
        digests: list[str] = []

        async def main(cluster: Cluster) -> None:
            await asyncio.sleep(pause)
            await send(cluster, body, e="-1")
            await send(cluster, body, i="")
            await cluster.broker("broker-b").stop()
            await asyncio.sleep(100)
            digests.append(cluster.digest())

        in_virtual_time(main, seed=seed, brokers=2, topics=["T"])
        return digests[0]

    assert digest() == digest()
    assert len({digest(), digest(b"y"), digest(pause=0.6), digest(seed=2)}) == 4


def test_history_is_bounded() -> None:
    """As many requests can be looked back on as `history_max` says, by code or all."""

    async def main(cluster: Cluster) -> None:
        for number in range(5):
            await send(cluster, b"%d" % number)
        await route(cluster, "T")
        assert [exchange.request.body for exchange in cluster.requests(SEND)] == [b"3", b"4"]
        last = cluster.requests()[-1]
        assert (len(cluster.requests()), last.server, last.code) == (3, "name-server-0", 105)
        assert last.reply is not None and last.reply.code == 0
        assert last.replied_at == last.received_at > 0

    in_virtual_time(main, history_max=3, topics=["T"])


def test_broker_registers_with_a_foreign_name_server() -> None:
    """A cluster without name servers lives at those of another, and leaves them at its end."""

    async def main(cluster: Cluster) -> None:
        foreign = [BrokerConfig(name="elsewhere", cluster_name="Other", namesrv=f"{cluster.namesrv};127.0.0.1:1")]
        options: dict[str, Any] = {"environment": cluster.environment, "name_servers": 0, "topics": ["T"]}
        async with Cluster(brokers=foreign, **options) as other:
            assert other.namesrv == f"{cluster.namesrv};127.0.0.1:1"
            assert await route(cluster, "T") == other.broker_addresses()
            other.create_topic("U")
            await route(cluster, "U")  # the frame is on its way
            assert await route(cluster, "U") == other.broker_addresses()
        assert await route(cluster, "T") == {}

    in_virtual_time(main)


def test_name_server_that_comes_later(caplog: pytest.LogCaptureFixture) -> None:
    """A broker whose name server is not there says so and tries again."""

    async def main(environment: Environment) -> None:
        config = BrokerConfig(name="early", namesrv="127.0.0.1:9876")
        async with Cluster(brokers=[config], name_servers=0, topics=["T"], environment=environment) as early:
            async with Cluster(brokers=0, port=9876, environment=environment) as late:
                assert await route(late, "T") == {}
                await asyncio.sleep(11)
                assert await route(late, "T") == early.broker_addresses()

    with caplog.at_level(logging.WARNING, "broker_sim"):
        run_virtual(main)
    assert "early cannot reach the name server at 127.0.0.1:9876" in caplog.text


def test_name_server_that_refuses(caplog: pytest.LogCaptureFixture) -> None:
    """A name server's refusal is logged with its words, for registrations and for announced topics."""

    async def main(environment: Environment) -> None:
        async with Server(environment, lambda peer, request: reply(peer, request, 1, remark="no")) as foreign:
            config = BrokerConfig(namesrv=foreign.addr)
            async with Cluster(brokers=[config], environment=environment) as cluster:
                cluster.create_topic("T")
                assert await route(cluster, "T") == cluster.broker_addresses()
                await asyncio.sleep(11)

    with caplog.at_level(logging.WARNING, "broker_sim"):
        run_virtual(main)
    texts = [record.getMessage() for record in caplog.records]
    assert [text for text in texts if "answered REGISTER_BROKER with SYSTEM_ERROR (1): no" in text]
    assert [text for text in texts if "answered with code 1: no" in text]


def test_ports_follow_the_given_one() -> None:
    """The first name server has the given port, all others those that follow; a broker may have one of its own."""

    async def main(environment: Environment) -> None:
        configs = [BrokerConfig(), BrokerConfig(port=7000), BrokerConfig(name="third")]
        async with Cluster(brokers=configs, name_servers=2, port=5000, environment=environment) as cluster:
            assert cluster.namesrv == "127.0.0.1:5000;127.0.0.1:5001"
            assert cluster.broker_addresses() == {
                "broker-a": "127.0.0.1:5002", "broker-b": "127.0.0.1:7000", "third": "127.0.0.1:5004",
            }  # fmt: skip

    run_virtual(main)


def test_taken_port() -> None:
    """Which server cannot listen is said, and what had been started is closed again."""

    async def main(environment: Environment) -> None:
        async with Cluster(port=5001, brokers=0, environment=environment):
            with pytest.raises(StateError, match=r"broker-a cannot listen: .*5001"):
                await Cluster(port=5000, environment=environment).__aenter__()
            listener = await environment.network.listen(asyncio.Protocol, "127.0.0.1", 5000)
            listener.close()

    run_virtual(main)


def test_advertised_host() -> None:
    """Clients are told the advertised host; brokers reach their name servers all the same."""

    async def main(cluster: Cluster) -> None:
        assert cluster.namesrv.startswith("rocket.example:")
        port = cluster.namesrv.rpartition(":")[2]
        async with RawClient(cluster.environment, f"127.0.0.1:{port}") as client:
            answer = await client.call(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": "T"})
        (data,) = decode_json(TopicRouteData, answer.body).broker_datas
        assert data.broker_addrs[0].startswith("rocket.example:")
        local = data.broker_addrs[0].replace("rocket.example", "127.0.0.1")
        async with RawClient(cluster.environment, local) as client:
            assert (await client.call(SEND, send_fields(), b"x")).code == 0
        assert cluster.messages("T")[0].store_host.startswith("127.0.0.1:")

    in_virtual_time(main, host="0.0.0.0", advertise="rocket.example", topics=["T"])


def test_default_host_of_a_wildcard() -> None:
    """Listening everywhere, servers are found at the host's own address."""

    async def main(cluster: Cluster) -> None:
        assert cluster.namesrv.startswith(cluster.environment.identity().host)
        assert await route(cluster, "T") == cluster.broker_addresses()

    in_virtual_time(main, host="0.0.0.0", topics=["T"])


def test_ipv6() -> None:
    """Addresses of sixteen bytes stand in brackets, and in records."""

    async def main(cluster: Cluster) -> None:
        assert cluster.namesrv.startswith("[::1]:")
        assert await route(cluster, "T") == cluster.broker_addresses()
        assert await send(cluster, b"x") == 0
        (message,) = cluster.messages("T")
        assert message.store_host == cluster.broker_addresses()["broker-a"]
        assert len(message.offset_message_id) == 56

    in_virtual_time(main, host="::1", topics=["T"])
