"""What a producer does when all goes well: where messages end up, and who is told what.

Every test runs in virtual time and on real sockets, against the simulator.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from broker_sim import Cluster
from rocketmq_aio import (
    ClientConfig,
    Message,
    MessageQueue,
    Producer,
    ProducerConfig,
    RequestCode,
    SendStatus,
    SendTimeoutError,
    State,
    Window,
)
from rocketmq_aio.environment import Environment
from tests.support.servers import Server, broker, name_server, silent
from tests.support.worlds import WORLDS, counting, leftovers, run_in

pytestmark = pytest.mark.parametrize("world", WORLDS)


def in_cluster(
    world: str, test: Callable[[Cluster, Environment], Awaitable[Any]], *, brokers: int = 2, queues: int = 4
) -> None:
    """Run `test(cluster, environment)` with a topic T."""

    async def main(environment: Environment) -> None:
        async with Cluster(brokers=brokers, topics={"T": queues}, environment=environment) as cluster:
            await test(cluster, environment)

    run_in(world, main)


def test_every_message_is_where_its_result_says(world: str) -> None:
    """Body, id, properties and flag are stored at the queue and offset of the result, in any order of answers."""

    async def test(cluster: Cluster, environment: Environment) -> None:
        async with Producer("g", namesrv=cluster.namesrv, environment=environment) as producer:
            messages = [
                Message("T", b"%d" % n, tags=f"t{n % 3}", keys=[f"k{n}", "k"], properties={"n": f"\"{n}\" 中 😀 %s\n"},
                        flag=n % 2, wait_store_ok=n % 5 > 0)
                for n in range(200)
            ]
            results = await asyncio.gather(*[producer.send(message) for message in messages])
        stored = {(message.queue, message.queue_offset): message for message in cluster.messages("T")}
        assert len(stored) == len(results) == 200
        for message, result in zip(messages, results, strict=True):
            assert result.status is SendStatus.SEND_OK and result.ok and result.raise_for_status() is result
            assert result.attempt_count == 1 and result.region_id == "DefaultRegion" and result.elapsed >= 0
            there = stored[result.queue, result.queue_offset]
            assert there.message_id == result.message_id == result.transaction_id
            assert there.offset_message_id == result.offset_message_id
            assert (there.body, there.tags, there.keys, there.flag, there.wait_store_ok) == (
                message.body, message.tags, message.keys, message.flag, message.wait_store_ok)
            assert there.properties["n"] == message.properties["n"]
        assert len({result.message_id for result in results}) == 200

    in_cluster(world, test)


def test_rotation_uses_all_writable_queues_equally(world: str) -> None:
    """Sends go round the queues of all brokers."""

    async def test(cluster: Cluster, environment: Environment) -> None:
        async with Producer("g", namesrv=cluster.namesrv, environment=environment) as producer:
            assert await producer.queues("T") == tuple(
                MessageQueue("T", name, queue) for name in ("broker-a", "broker-b", "broker-c") for queue in range(4)
            )
            results = [await producer.send(Message("T", b"x")) for _ in range(36)]
        assert set(Counter(result.queue for result in results).values()) == {3}

    in_cluster(world, test, brokers=3)


def test_senders_that_miss_a_route_at_once_share_one_request(world: str) -> None:
    """A hundred first sends ask the name server once and make one connection to each broker."""

    async def test(cluster: Cluster, environment: Environment) -> None:
        counted, network = counting(environment)
        async with Producer("g", namesrv=cluster.namesrv, environment=counted) as producer:
            await asyncio.gather(*[producer.send(Message("T", b"x")) for _ in range(100)])
            assert network.opened == 3
        routes = [e for e in cluster.requests(RequestCode.GET_ROUTEINFO_BY_TOPIC)
                  if e.request.ext_fields["topic"] == "T"]
        assert len(routes) == 1

    in_cluster(world, test)


def test_cancelled_first_sender_does_not_take_the_others_with_it(world: str) -> None:
    """The one that started the shared look-up is cancelled; the others get the route."""

    async def test(cluster: Cluster, environment: Environment) -> None:
        async with Producer("g", namesrv=cluster.namesrv, environment=environment) as producer:
            sends = [asyncio.create_task(producer.send(Message("T", b"%d" % n))) for n in range(10)]
            await asyncio.sleep(0)
            sends[0].cancel()
            results = await asyncio.gather(*sends, return_exceptions=True)
            assert isinstance(results[0], asyncio.CancelledError)
            assert all(result.ok for result in results[1:])
        assert sorted(message.body for message in cluster.messages("T")) == [b"%d" % n for n in range(1, 10)]

    in_cluster(world, test)


def test_oneway(world: str) -> None:
    """A one-way message is stored and never answered; a tight loop of them does not starve the loop."""

    async def test(cluster: Cluster, environment: Environment) -> None:
        async with Producer("g", namesrv=cluster.namesrv, environment=environment) as producer:
            for n in range(50):
                await producer.send_oneway(Message("T", b"%d" % n))
            await producer.send(Message("T", b"last"))
            await producer.send(Message("T", b"last"))
            await producer.ping()  # both brokers have answered something that was sent later
            assert producer.stats().sent == 52
        assert sum(message.body != b"last" for message in cluster.messages("T")) == 50

    in_cluster(world, test)


def test_known_to_brokers_while_it_lives(world: str) -> None:
    """A heartbeat with the group goes out on each new connection, and UNREGISTER_CLIENT at the end."""

    async def test(cluster: Cluster, environment: Environment) -> None:
        config = ProducerConfig(client=ClientConfig(instance="here", unit="u"))
        async with Producer("g", namesrv=cluster.namesrv, environment=environment, config=config) as producer:
            for _ in range(8):
                await producer.send(Message("T", b"x"))
        beats = cluster.requests(RequestCode.HEART_BEAT)
        assert [beat.server for beat in beats] in (["broker-a", "broker-b"], ["broker-b", "broker-a"])
        body = msgspec.json.decode(beats[0].request.body)
        assert body["producerDataSet"] == [{"groupName": "g"}]
        assert body["clientID"].endswith("@here@u")
        goodbyes = cluster.requests(RequestCode.UNREGISTER_CLIENT)
        assert len(goodbyes) == 2
        assert all(e.request.ext_fields["clientID"] == body["clientID"] for e in goodbyes)

    in_cluster(world, test)


def test_heartbeats_and_route_refresh_go_on(world: str) -> None:
    """Every interval a heartbeat to each broker and one look at each route in use."""
    if world != "virtual":
        pytest.skip("A minute passes at once in virtual time only.")

    async def test(cluster: Cluster, environment: Environment) -> None:
        async with Producer("g", namesrv=cluster.namesrv, environment=environment) as producer:
            for _ in range(8):
                await producer.send(Message("T", b"x"))
            await asyncio.sleep(95)
            assert len(cluster.requests(RequestCode.HEART_BEAT)) == 2 + 3 * 2
            routes = [e for e in cluster.requests(RequestCode.GET_ROUTEINFO_BY_TOPIC)
                      if e.request.ext_fields["topic"] == "T"]
            assert len(routes) == 1 + 3
            assert producer.stats().reconnects == 0

    in_cluster(world, test)


def test_more_queues_are_used_after_the_next_refresh(world: str) -> None:
    """A changed route replaces the old one; sends in between go on."""

    async def test(cluster: Cluster, environment: Environment) -> None:
        config = ProducerConfig(client=ClientConfig(route_refresh=0.05))
        async with Producer("g", namesrv=cluster.namesrv, environment=environment, config=config) as producer:
            await producer.send(Message("T", b"x"))
            cluster.create_topic("T", queues=8)
            while len(await producer.queues("T")) != 16:
                await producer.send(Message("T", b"x"))
            results = [await producer.send(Message("T", b"x")) for _ in range(16)]
        assert len({result.queue for result in results}) == 16

    in_cluster(world, test)


def test_start_with_topics_connects(world: str) -> None:
    """`start` waits for the routes and connections of its topics, so that the first send needs neither."""

    async def test(cluster: Cluster, environment: Environment) -> None:
        counted, network = counting(environment)
        producer = Producer("g", namesrv=cluster.namesrv, environment=counted, topics=["T"])
        await producer.start()
        assert producer.state is State.RUNNING
        assert network.opened == 3
        await producer.send(Message("T", b"x"))
        assert network.opened == 3
        await producer.ping()
        await producer.aclose()
        left = leftovers(network)
        assert (left["sockets"], left["pending"], left["tasks"]) == (0, 0, 0)  # the cluster has timers of its own

    in_cluster(world, test)


def test_window_is_a_door(world: str) -> None:
    """Never more in flight than the window; who waits is served in turn; a deadline ends the wait."""

    async def main(environment: Environment) -> None:
        highest = 0

        def handle(connection: Any, request: Any) -> None:
            nonlocal highest
            highest = max(highest, producer.stats().in_flight)
            answer(connection, request)

        answer = broker()
        async with Server(environment, handle) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"T": 1})) as ns:
                config = ProducerConfig(window=Window(messages_max=3, bytes_max=1000))
                async with Producer("g", namesrv=ns.addr, environment=environment, config=config) as producer:
                    sends = [asyncio.ensure_future(producer.send(Message("T", b"x" * (1 + 99 * (n % 7)))))
                             for n in range(100)]
                    results = await asyncio.gather(*sends)
                    assert [result.queue_offset for result in results] == sorted(r.queue_offset for r in results)
                    assert 1 < highest <= 3
                    assert producer.stats().window_waits >= 97
                    assert producer.stats().in_flight == 0 == producer.stats().in_flight_bytes

    run_in(world, main)


def test_no_room_until_the_deadline(world: str) -> None:
    """A send that finds no room ends by its deadline, without an attempt, and says where it waited."""

    async def main(environment: Environment) -> None:
        async with Server(environment, silent) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"T": 1})) as ns:
                config = ProducerConfig(window=Window(messages_max=1), send_timeout=2.0, drain=0)
                async with Producer("g", namesrv=ns.addr, environment=environment, config=config) as producer:
                    first = asyncio.ensure_future(producer.send(Message("T", b"x")))
                    await asyncio.sleep(0)
                    with pytest.raises(SendTimeoutError, match="for room") as caught:
                        await producer.send(Message("T", b"x"), send_timeout=0.05)
                    assert caught.value.attempts == () and not caught.value.maybe_stored
                    first.cancel()

    run_in(world, main)


class SlowMessage(Message, frozen=True, kw_only=True):
    """A message that never takes the warm path, which is for `Message` itself."""


def test_warm_and_slow_path_give_the_same(world: str) -> None:
    """The slow path gives the results of the warm one, and stores the same bytes."""

    async def test(cluster: Cluster, environment: Environment) -> None:
        async with Producer("g", namesrv=cluster.namesrv, environment=environment) as producer:
            content = {"tags": "a", "keys": "k", "properties": {"p": "v"}, "flag": 3, "wait_store_ok": False}
            message, slow_message = Message("T", b"same", **content), SlowMessage("T", b"same", **content)
            await producer.send(message)
            warm = await producer.send(message)
            slow = await producer.send(slow_message)
        assert msgspec.structs.asdict(warm).keys() == msgspec.structs.asdict(slow).keys()
        for name in ("status", "region_id", "attempt_count", "recall_handle"):
            assert getattr(warm, name) == getattr(slow, name)
        stored = {message.message_id: message for message in cluster.messages("T")}
        first, second = stored[warm.message_id], stored[slow.message_id]
        assert first.property_string.replace(warm.message_id, "") == second.property_string.replace(slow.message_id, "")

    in_cluster(world, test, brokers=1, queues=1)
