"""`simulate`: a cluster in virtual time, for plain tests and scripts."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker_sim.cluster import Cluster
from broker_sim.simulation import simulate
from broker_sim.worlds.hang import DeadlockError
from broker_sim.worlds.memory import MemoryNetwork
from rocketmq_aio.environment import Environment, housekeeping
from rocketmq_aio.errors import StateError
from rocketmq_aio.message import Message
from rocketmq_aio.producer import Producer

ROOT = Path(__file__).parents[2]


async def send(cluster: Cluster, count: int) -> list[str]:
    """Send messages, some a minute after others, and return where they went."""
    sent = []
    async with Producer("group", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
        for number in range(count):
            result = await producer.send(Message("T", b"%d" % number))
            sent.append(f"{result.queue} {result.queue_offset} {result.message_id} {result.offset_message_id}")
            await asyncio.sleep(60)
    return sent


@simulate(seed=7, brokers=2, topics={"T": 4})
async def test_a_test_gets_a_cluster(cluster: Cluster) -> None:
    """The decorated test runs as a plain function, with a cluster as it was described, in virtual time."""
    start = cluster.environment.clock.monotonic()
    assert len(set(await send(cluster, 120))) == 120
    messages = cluster.messages("T")
    assert len(messages) == 120
    assert {message.queue.broker_name for message in messages} == {"broker-a", "broker-b"}
    assert 7_200 <= cluster.environment.clock.monotonic() - start < 7_300
    assert not housekeeping.get()


@pytest.fixture
def number() -> int:
    """A fixture of the test below."""
    return 42


@pytest.mark.parametrize("word", ["a", "b"])
@simulate(topics=["T"])
async def test_fixtures_and_parameters_pass_through(word: str, cluster: Cluster, number: int, tmp_path: Path) -> None:
    """The test has all its parameters but `cluster` from pytest."""
    assert word in "ab"
    assert number == 42
    assert tmp_path.is_dir()
    assert cluster.messages("T") == []


class TestMethods:
    """Tests in classes."""

    @simulate()
    async def test_a_method_can_be_simulated(self, cluster: Cluster, number: int) -> None:
        """`self` passes through like a fixture."""
        assert isinstance(self, TestMethods)
        assert isinstance(cluster, Cluster)
        assert number == 42


@settings(max_examples=5)
@given(count=st.integers(1, 3))
@simulate(topics={"T": 1})
async def test_hypothesis_draws_for_a_simulated_test(cluster: Cluster, count: int) -> None:
    """Each example has a cluster of its own."""
    await send(cluster, count)
    assert len(cluster.messages("T")) == count


def test_the_decorated_function_is_plain() -> None:
    """It is no coroutine function, has the signature without the cluster, keeps its name and returns the result."""

    @simulate()
    async def some_test(cluster: Cluster, left: int, *, right: int = 2) -> int:
        """Documentation."""
        return left + right

    assert not inspect.iscoroutinefunction(some_test)
    assert list(inspect.signature(some_test).parameters) == ["left", "right"]
    assert (some_test.__name__, some_test.__doc__) == ("some_test", "Documentation.")
    assert some_test(1) == 3
    assert some_test(left=1, right=5) == 6


def test_what_cannot_be_simulated() -> None:
    """A plain function, a test without a cluster and an environment of one's own are refused when they are declared."""

    async def without() -> None: ...

    with pytest.raises(TypeError, match="is not a coroutine function"):
        simulate()(lambda cluster: None)
    with pytest.raises(TypeError, match=r"without\(\) -> 'None' has no parameter 'cluster'"):
        simulate()(without)
    with pytest.raises(TypeError, match="makes the environment"):
        simulate(environment=None)
    with pytest.raises(TypeError, match="makes the environment"):
        simulate.run(lambda cluster: without(), environment=None)


def test_a_decorator_needs_its_parentheses() -> None:
    """`@simulate` alone is told so."""

    async def some_test(cluster: Cluster) -> None: ...

    bare: Any = simulate
    with pytest.raises(TypeError, match=r"write @simulate\(\)"):
        bare(some_test)


def test_run_wants_a_coroutine_function() -> None:
    """Neither a coroutine nor what is no function at all nor a plain function."""

    async def main(cluster: Cluster) -> None: ...

    run: Any = simulate.run
    for wrong in (main(None), 5):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"give it the function, as in simulate\.run\(main\), not "):
            run(wrong)
    with pytest.raises(TypeError, match="is not a coroutine function; it returned 42"):
        run(lambda cluster: 42)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"seed": "7"}, TypeError, "seed must be an int, not '7'"),
        ({"seed": None}, TypeError, "seed must be an int"),
        ({"seed": True}, TypeError, "seed must be an int"),
        ({"hang_after": "5"}, TypeError, "hang_after must be a number of seconds, not '5'"),
        ({"hang_after": 0}, ValueError, "hang_after must be more than 0 seconds, not 0"),
        ({"hang_after": float("nan")}, ValueError, "hang_after must be more than 0 seconds, not nan"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    """They are refused where they are written, by the decorator as by `run`."""

    async def main(cluster: Cluster) -> None: ...

    with pytest.raises(kind, match=words):
        simulate(**options)
    with pytest.raises(kind, match=words):
        simulate.run(main, **options)


def test_a_client_of_the_real_world_is_refused() -> None:
    """A client that was not given the cluster's environment is told which."""

    async def main(cluster: Cluster) -> None:
        host, _, port = cluster.namesrv.rpartition(":")
        with pytest.raises(StateError, match=r"environment=cluster\.environment"):
            await Environment.system().network.connect(asyncio.Protocol, host, int(port))

    simulate.run(main)


def test_run_returns_the_result() -> None:
    """`simulate.run` is the same for scripts."""

    async def main(cluster: Cluster) -> list[str]:
        return await send(cluster, 3)

    assert len(simulate.run(main, seed=7, topics={"T": 4})) == 3


def test_a_failure_carries_the_seed() -> None:
    """As a note, so that every test runner prints it."""

    @simulate(seed=4711)
    async def fails(cluster: Cluster) -> None:
        raise AssertionError("no")

    with pytest.raises(AssertionError, match="no") as caught:
        fails()
    assert caught.value.__notes__ == ["seed=4711"]


def test_a_hang_is_found_among_the_heartbeats() -> None:
    """Brokers register and producers send heartbeats for ever; a test that waits for nothing is still found."""

    async def stuck_forever(cluster: Cluster) -> None:
        async with Producer("group", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
            await producer.send(Message("T", b"x"))
            await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError) as caught:
        simulate.run(stuck_forever, seed=1, topics=["T"])
    assert "only housekeeping has run" in str(caught.value)
    assert "in stuck_forever" in str(caught.value)
    assert 600 <= caught.value.elapsed < 700
    assert caught.value.__notes__ == ["seed=1"]


def test_waiting_longer_than_an_expiry_is_no_hang() -> None:
    """Two minutes, after which servers forget who is silent, are far from a hang; so is an hour."""

    async def main(cluster: Cluster) -> float:
        start = cluster.environment.clock.monotonic()
        await asyncio.sleep(121)
        await asyncio.sleep(3_600)
        return cluster.environment.clock.monotonic() - start

    assert simulate.run(main) == pytest.approx(3_721)


def test_nothing_is_left_behind() -> None:
    """When client and cluster are closed, no end of a connection is."""
    networks: list[Any] = []

    async def main(cluster: Cluster) -> None:
        networks.append(cluster.environment.network)
        await send(cluster, 2)

    simulate.run(main, topics=["T"], brokers=2)
    (network,) = networks
    assert isinstance(network, MemoryNetwork)
    assert network.open_ends == 0


HISTORY = """
import asyncio
from broker_sim.simulation import simulate
from tests.sim.test_simulate import send

async def main(cluster):
    others = [asyncio.ensure_future(send(cluster, 10)) for _ in range(5)]
    sent = await send(cluster, 10)
    others[3].cancel()
    await asyncio.wait(others)
    return sent + [str(message) for message in cluster.messages("T")]

print(hash(None) and "\\n".join(simulate.run(main, seed=SEED, brokers=2, topics={"T": 4})))
"""


def history_elsewhere(seed: int, hash_seed: str) -> str:
    """What a program with several producers has done, in a process of its own."""
    command = [sys.executable, "-c", HISTORY.replace("SEED", str(seed))]
    environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_a_seed_repeats_everything() -> None:
    """Ids, queues, offsets and times are the same in other processes, whatever the hash seed; other seeds differ."""
    first = history_elsewhere(7, "1")
    assert len(first.splitlines()) > 60
    assert history_elsewhere(7, "2") == first
    assert history_elsewhere(8, "1") != first
