"""What breaks clients after hours or by bad luck: counters that wrap, clocks that jump, processes that fork."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from functools import partial

import msgspec
import pytest

from broker_sim import Cluster, memory
from broker_sim.worlds.runner import run_virtual
from rocketmq_aio import ForkedError, Message, Producer
from rocketmq_aio.environment import Environment, ProcessIdentity
from rocketmq_aio.wire.ids import parse_unique_id

MESSAGES = 65_600


async def send_many(environment: Environment, cluster: Cluster, count: int) -> set[str]:
    """Send `count` messages, 512 in flight, and return their ids; all must be stored as acknowledged."""
    results = []
    async with Producer("g", namesrv=cluster.namesrv, environment=environment) as producer:
        message = Message("T", b"x")

        async def worker(share: int) -> None:
            for _ in range(share):
                results.append(await producer.send(message))

        await asyncio.gather(*[worker(count // 512 + (n < count % 512)) for n in range(512)])
        assert producer.stats().failed == {}
    assert len({(result.queue, result.queue_offset) for result in results}) == count
    return {result.message_id for result in results}


def test_more_messages_than_the_id_counter_has_numbers() -> None:
    """65,600 messages in one process: no error, and no id twice."""

    async def main(environment: Environment) -> None:
        async with Cluster(topics={"T": 4}, environment=environment) as cluster:
            ids = await send_many(environment, cluster, MESSAGES)
            assert len(ids) == MESSAGES
            assert len(cluster.messages("T")) == MESSAGES

    asyncio.run(main(memory(seed=1)))


def test_wall_clock_that_stands_still() -> None:
    """More messages than the counter has numbers, all at one instant: no id twice."""

    async def main() -> None:
        environment = memory(seed=1)

        class Stopped:
            monotonic = staticmethod(environment.clock.monotonic)
            wall = staticmethod(lambda: 1_700_000_000.0)

        environment = msgspec.structs.replace(environment, clock=Stopped())
        async with Cluster(topics={"T": 4}, environment=environment) as cluster:
            assert len(await send_many(environment, cluster, MESSAGES)) == MESSAGES

    asyncio.run(main())


def test_opaque_wraps() -> None:
    """The request number goes from 2^31 - 1 to 0, and past numbers that are still pending."""

    async def main(environment: Environment) -> None:
        async with Cluster(topics={"T": 1}, environment=environment) as cluster:
            async with Producer("g", namesrv=cluster.namesrv, environment=environment) as producer:
                await producer.send(Message("T", b"x"))
                connection = producer._pool.connections[cluster.broker("broker-a").address]
                connection._opaque = 2**31 - 20
                results = await asyncio.gather(*[producer.send(Message("T", b"x")) for _ in range(60)])
                assert sorted(result.queue_offset for result in results) == list(range(1, 61))
                assert connection._opaque == 40

    run_virtual(main)


@pytest.mark.parametrize("days", [24, 25, 26, 30])
def test_clock_of_many_days(days: int) -> None:
    """A process, and a month, older than 2^31 milliseconds (24.86 days): sends go on and ids stay readable."""
    environment = memory(seed=1)
    seconds = days * 86_400
    month = datetime(2024, 1, 1).astimezone().timestamp()

    class Late:
        monotonic = staticmethod(lambda: environment.clock.monotonic() + seconds)
        wall = staticmethod(lambda: month + seconds + environment.clock.monotonic() % 1)

    late = msgspec.structs.replace(environment, clock=Late())

    async def main() -> None:
        async with Cluster(topics={"T": 1}, environment=late) as cluster:
            async with Producer("g", namesrv=cluster.namesrv, environment=late) as producer:
                results = [await producer.send(Message("T", b"x")) for _ in range(10)]
            assert all(0 <= result.elapsed < 10 for result in results)
            (first, *_) = cluster.messages("T")
        assert first.born_at.astimezone().day == days + 1
        for result in results:
            assert parse_unique_id(result.message_id)[3] == pytest.approx(seconds * 1000, abs=1000)

    asyncio.run(main())


def test_wall_clock_set_back() -> None:
    """An hour back, while messages are sent: no error, no id twice, no measured time below zero."""

    async def main(environment: Environment) -> None:
        async with Cluster(topics={"T": 4}, environment=environment) as cluster:
            async with Producer("g", namesrv=cluster.namesrv, environment=environment) as producer:
                results = []
                for n in range(400):
                    if n == 200:
                        environment.clock.step(-3600)
                    results.append(await producer.send(Message("T", b"x")))
                assert len({result.message_id for result in results}) == 400
                assert all(result.elapsed >= 0 for result in results)
                assert producer.stats().failed == {}

    run_virtual(main)


def test_two_processes_with_one_pid_and_address() -> None:
    """Two containers: both are process 1 at 172.17.0.2. Their ids differ all the same."""

    async def main() -> None:
        ids = []
        for seed in (1, 2):
            alike = partial(ProcessIdentity, bytes([172, 17, 0, 2]), 1, "172.17.0.2")
            environment = msgspec.structs.replace(memory(seed=seed), identity=alike)
            async with Cluster(topics={"T": 1}, environment=environment) as cluster:
                ids.append(await send_many(environment, cluster, 2000))
        assert len(ids[0] | ids[1]) == 4000
        assert all(text.startswith("AC1100020001") for text in ids[0] | ids[1])

    asyncio.run(main())


def test_system_entropy_differs_between_producers() -> None:
    """In the real world two producers never draw the same salt."""
    environment = Environment.system()
    assert len({environment.entropy("unique ids").getrandbits(32) for _ in range(100)}) == 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system has no fork.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # 3.12 warns of forks beside threads; that is the point here
def test_fork() -> None:
    """A child gets a ForkedError from an inherited producer, and ids of its own from a new one; the parent goes on."""
    with Cluster(topics={"T": 2}) as cluster:

        async def parent() -> tuple[Producer, set[str]]:
            producer = Producer("g", namesrv=cluster.namesrv)
            await producer.start()
            return producer, {(await producer.send(Message("T", b"parent"))).message_id for _ in range(50)}

        async def child() -> set[str]:
            async with Producer("g", namesrv=cluster.namesrv) as mine:
                return {(await mine.send(Message("T", b"child"))).message_id for _ in range(50)}

        with asyncio.Runner() as runner:
            producer, before = runner.run(parent())
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.write(write, _in_child(producer, child).encode())
                    code = 0
                finally:
                    os._exit(code)
            os.close(write)
            with os.fdopen(read) as pipe:
                text = pipe.read()
            assert os.waitpid(pid, 0)[1] == 0
            ids = set(text.split())
            assert len(ids) == 50 and not ids & before

            async def after() -> None:
                result = await producer.send(Message("T", b"parent"))
                assert result.ok and result.message_id not in ids | before
                await producer.aclose()

            runner.run(after())
        assert len(cluster.messages("T")) == 101


def _in_child(producer: Producer, child: object) -> str:
    async def inherited() -> None:
        with pytest.raises(ForkedError, match="fork"):
            await producer.send(Message("T", b"x"))
        with pytest.raises(ForkedError):
            await producer.aclose()
        producer.abort()

    asyncio.set_event_loop(None)
    asyncio.run(inherited())
    return " ".join(asyncio.run(child()))  # type: ignore[operator]


def test_store_times_never_fall() -> None:
    """The broker's clock is set back an hour: searching by time, which needs rising store times, stays right."""

    async def main(environment: Environment) -> None:
        async with Cluster(topics={"T": 1}, environment=environment) as cluster:
            async with Producer("g", namesrv=cluster.namesrv, environment=environment) as producer:
                for n in range(10):
                    if n == 5:
                        environment.clock.step(-3600)
                    await producer.send(Message("T", b"%d" % n))
            times = [message.store_timestamp_ms for message in cluster.messages("T")]
            assert times == sorted(times)
            log = cluster._servers.brokers["broker-a"].state.store.log("T", 0)
            assert [log.first_stored_at_or_after(time) for time in times] == [times.index(time) for time in times]

    run_virtual(main)
