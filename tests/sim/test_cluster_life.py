"""What a cluster does while it starts and stops: cancellations, and name servers elsewhere that are silent."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import warnings

import pytest

from broker_sim.cluster import Cluster
from broker_sim.config import BrokerConfig
from broker_sim.worlds.runner import run_virtual
from rocketmq_aio.codes import RequestCode
from rocketmq_aio.environment import Environment
from rocketmq_aio.errors import ClosedError, StateError
from tests.sim.test_cluster import route
from tests.support.raw_client import RawClient
from tests.support.servers import Server
from tests.support.worlds import WORLDS, counting, open_files, run_in


async def turn(count: int) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(1, 5))
@pytest.mark.parametrize("world", WORLDS)
def test_a_cancelled_stop_has_stopped(world: str, turns: int) -> None:
    """However soon `stop` is cancelled, the broker has no port, no route and no task, and can be started again."""

    async def main(environment: Environment) -> None:
        async with Cluster(topics=["T"], environment=environment) as cluster:
            broker = cluster.broker("broker-a")
            stopping = asyncio.ensure_future(broker.stop())
            await turn(turns)
            stopping.cancel()
            await asyncio.wait([stopping])
            assert not broker.running
            assert await route(cluster, "T") == {}
            with pytest.raises(ConnectionRefusedError):
                await RawClient(environment, broker.address).__aenter__()
            assert not [task for task in asyncio.all_tasks() if "broker-a registers" in task.get_name()]
            await broker.start()
            assert await route(cluster, "T") == cluster.broker_addresses()

    run_in(world, main)


@pytest.mark.parametrize("turns", range(8))
def test_a_cancelled_start_has_not_started(turns: int) -> None:
    """Whenever `start` is cancelled, the broker is stopped, or it runs and is registered."""

    async def main(environment: Environment) -> None:
        async with Cluster(topics=["T"], environment=environment) as cluster:
            broker = cluster.broker("broker-a")
            await broker.stop()
            starting = asyncio.ensure_future(broker.start())
            await turn(turns)
            starting.cancel()
            await asyncio.wait([starting])
            assert broker.running is not starting.cancelled()
            await asyncio.sleep(60)
            assert await route(cluster, "T") == (cluster.broker_addresses() if broker.running else {})
            await broker.start()
            assert await route(cluster, "T") == cluster.broker_addresses()

    run_virtual(main)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("world", WORLDS)
def test_an_exit_that_is_cancelled_twice_leaves_nothing(world: str, turns: int) -> None:
    """No listening port, no task, no connection and no descriptor."""

    async def main(environment: Environment) -> None:
        counted, network = counting(environment)
        opened: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

        async def serve() -> None:
            async with Cluster(brokers=2, name_servers=2, topics=["T"], environment=counted) as cluster:
                opened.set_result([*cluster.namesrv.split(";"), *cluster.broker_addresses().values()])
                await asyncio.get_running_loop().create_future()

        async with Cluster(environment=environment):
            pass  # uvloop opens a descriptor of its own with the first connection
        before = open_files()
        serving = asyncio.create_task(serve())
        addresses = await opened
        client = RawClient(environment, addresses[0])
        await client.__aenter__()
        serving.cancel()
        await turn(turns + 1)
        serving.cancel()
        await asyncio.wait([serving])
        assert serving.cancelled()
        await client.lost
        for address in addresses:
            with pytest.raises(ConnectionRefusedError):
                await RawClient(environment, address).__aenter__()
        await turn(10)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert len(network.open) == 4 and network.still_open() == []
        assert open_files() == before

    run_in(world, main)


def test_a_silent_name_server_elsewhere_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    """All brokers together wait three seconds for it, say so, and go on trying; the own name servers know them."""

    async def main(environment: Environment) -> None:
        monotonic = environment.clock.monotonic
        async with Server(environment, lambda peer, request: None) as silent:
            started = monotonic()
            configs = [BrokerConfig(namesrv=silent.addr)] * 5
            async with Cluster(brokers=configs, topics=["T"], environment=environment) as cluster:
                assert 3 <= monotonic() - started < 3.1
                assert await route(cluster, "T") == cluster.broker_addresses()
                assert [request.code for request in silent.requests] == [RequestCode.REGISTER_BROKER] * 5

                restarted = monotonic()
                await cluster.name_server().stop()
                await cluster.name_server().start()
                assert monotonic() - restarted < 0.1
                assert await route(cluster, "T") == cluster.broker_addresses()

                await asyncio.sleep(60)
                assert len(silent.requests) == 10

    with caplog.at_level(logging.WARNING, "broker_sim"):
        run_virtual(main)
    texts = [record.getMessage() for record in caplog.records]
    assert [text for text in texts if "broker-e is not registered: the name server at" in text and "silent" in text]
    assert [text for text in texts if "broker-e is not registered, and tries again in 10 s: " in text]


def test_a_broker_that_is_stopped_while_it_starts_stays_away() -> None:
    """`stop` does not wait for a `start` that waits for a name server, ends it, and nothing registers later."""

    async def main(environment: Environment) -> None:
        async with Server(environment, lambda peer, request: None) as silent:
            configs = [BrokerConfig(namesrv=silent.addr)]
            async with Cluster(brokers=configs, topics=["T"], environment=environment) as cluster:
                broker = cluster.broker("broker-a")
                await broker.stop()
                starting = asyncio.ensure_future(broker.start())
                await asyncio.sleep(1)
                await broker.stop()
                await starting
                asked = [request.code for request in silent.requests].count(RequestCode.REGISTER_BROKER)
                await asyncio.sleep(100)
                assert not broker.running
                assert await route(cluster, "T") == {}
                codes = [request.code for request in silent.requests]
                assert codes.count(RequestCode.REGISTER_BROKER) == asked == 2

    run_virtual(main)


@pytest.mark.parametrize("world", WORLDS[1:])
def test_a_host_that_is_not_here(world: str) -> None:
    """An address of another machine, or no address at all, is not blamed on other programs."""

    async def main(environment: Environment) -> None:
        for host in ("192.0.2.1", "x" * 64):
            with pytest.raises(StateError, match=r"cannot listen: .*address of this machine") as caught:
                await Cluster(host=host, environment=environment).__aenter__()
            assert "another program" not in str(caught.value)

    run_in(world, main)


def test_threads_that_stop_and_start_while_it_is_closed() -> None:
    """Several threads stop and start brokers, one closes the cluster: each is told in its turn, and nothing is left."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcomes: list[BaseException] = []
        busy = threading.Semaphore(0)
        cluster = Cluster(brokers=2, topics=["T"])

        def work(name: str) -> None:
            broker = cluster.broker(name)
            try:
                while True:
                    broker.stop()
                    broker.start()
                    busy.release()
            except BaseException as error:
                outcomes.append(error)

        with cluster:
            threads = [threading.Thread(target=work, args=(name,)) for name in ("broker-a", "broker-a", "broker-b")]
            for thread in threads:
                thread.start()
            for _ in range(6):
                assert busy.acquire(timeout=30)
        for thread in threads:
            thread.join(30)
        assert [type(outcome) for outcome in outcomes] == [ClosedError] * 3, outcomes
        gc.collect()
