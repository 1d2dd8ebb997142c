"""Injections in use: which requests they hit, seeds, and the handle that removes them, in and across threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from broker_sim import (
    Cluster,
    Corrupt,
    Delay,
    Disconnect,
    Drop,
    Duplicate,
    Pass,
    Reply,
    Status,
    simulate,
    threads,
)
from rocketmq_aio import (
    SEND,
    ClosedError,
    ConfigError,
    Message,
    Producer,
    RequestCode,
    ResponseCode,
    SendConnectionError,
    SendRejectedError,
    SendStatus,
    SendTimeoutError,
    StateError,
    SystemBusyError,
    WrongLoopError,
)
from tests.support.brokers import Broker, with_broker


@simulate(brokers=2, topics={"T": 1, "U": 1})
async def test_one_broker_and_one_topic(cluster: Cluster) -> None:
    """Filters by broker and topic leave everything else alone."""
    async with Producer("g", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
        with cluster.inject(SEND, Drop(), broker="broker-b", topic="T") as injection:
            outcomes: dict[str, list[str]] = {"T": [], "U": []}
            for topic, seen in outcomes.items():
                for _ in range(4):
                    try:
                        result = await producer.send(Message(topic, b"x"), send_timeout=1)
                    except SendTimeoutError as error:
                        seen.append(f"no answer of {error.attempts[-1].queue.broker_name}")
                    else:
                        seen.append(result.queue.broker_name)
        assert sorted(outcomes["T"]) == ["broker-a"] * 2 + ["no answer of broker-b"] * 2
        assert sorted(outcomes["U"]) == ["broker-a"] * 2 + ["broker-b"] * 2
        assert injection.hits == 2


def test_name_servers_too() -> None:
    """A name server is a server like others: the one that is asked first is asked in vain, and the other answers."""

    def hits(silent: str) -> int:
        async def main(cluster: Cluster) -> int:
            codes = (RequestCode.GET_ROUTEINFO_BY_TOPIC,)
            with cluster.inject(codes, Drop(), broker=silent) as injection:
                async with Producer("g", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
                    assert (await producer.send(Message("T", b"x"), send_timeout=30)).ok
            answered = {exchange.server for exchange in cluster.requests(*codes) if exchange.reply}
            assert answered == {"name-server-0", "name-server-1"} - {silent}
            return injection.hits

        return simulate.run(main, topics={"T": 1}, name_servers=2)

    assert sorted([hits("name-server-0"), hits("name-server-1")]) == [0, 1]


def test_seeded_probability_is_the_same_in_every_run() -> None:
    """The seed decides which requests are hit; another injection behind it does not change that."""

    def run(seed: int, *, beside: bool = False) -> tuple[str, list[int]]:
        async def main(cluster: Cluster) -> tuple[str, list[int]]:
            injection = cluster.inject(SEND, Reply(1), probability=0.3)
            if beside:
                cluster.inject(SEND, Pass(), probability=0.3)
            hits = []
            async with Producer("g", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
                for number in range(100):
                    before = injection.hits
                    try:
                        await producer.send(Message("T", b"x"))
                    except SendRejectedError:
                        pass
                    if injection.hits > before:
                        hits.append(number)
            return cluster.digest(), hits

        return simulate.run(main, seed=seed, topics={"T": 4})

    assert run(1) == run(1)
    assert run(1)[1] == run(1, beside=True)[1] != run(2)[1]
    assert 10 < len(run(1)[1]) < 60


@simulate()
async def test_each_injection_has_dice_of_its_own(cluster: Cluster) -> None:
    """Two injections of one probability do not apply to the same requests."""
    for _ in range(2):
        cluster.inject(SEND, Drop(), probability=0.5)
    first, second = (rule.rng for rule in cluster._servers.rules.installed)
    assert first.random() != second.random()


def test_digest_is_the_same_with_every_injection() -> None:
    """The same seed gives the same history, with all verdicts in the run."""

    def run(seed: int) -> str:
        async def main(cluster: Cluster) -> str:
            injections = []
            for verdict in (Reply(1), Delay(0.2), Delay(5, "after"), Drop(), Drop("after"), Disconnect(),
                            Disconnect("after"), Duplicate(), Status(SendStatus.FLUSH_DISK_TIMEOUT),
                            Corrupt(lambda frame: frame[:-1] + b"!")):  # fmt: skip
                injections.append(cluster.inject(SEND, verdict, probability=0.1))
            async with Producer("g", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
                for _ in range(150):
                    try:
                        await producer.send(Message("T", b"x"), send_timeout=1)
                    except (SendTimeoutError, SendConnectionError, SendRejectedError):
                        pass
            assert all(injection.hits for injection in injections)
            return cluster.digest()

        return simulate.run(main, seed=seed, topics={"T": 4})

    assert run(1) == run(1) != run(2)


def test_wrong_arguments() -> None:
    """A server that does not exist, or no code, is refused at once; nothing is installed."""

    async def main(broker: Broker) -> None:
        with pytest.raises(ConfigError, match=r"no server 'broker-z'.*broker-a, name-server-0"):
            broker.cluster.inject(SEND, Drop(), broker="broker-z")
        with pytest.raises(ConfigError, match="must be the name of a server, not 5"):
            broker.cluster.inject(SEND, Drop(), broker=5)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="is no verdict"):
            broker.cluster.inject(SEND, Drop)  # type: ignore[arg-type]
        assert (await broker.send(b"x")).code == 0

    with_broker(main)


def test_refused_injection_changes_nothing() -> None:
    """Not even where the next one's dice fall."""

    def hits(refused: int) -> list[int]:
        async def main(broker: Broker) -> None:
            for _ in range(refused):
                with pytest.raises(ConfigError):
                    broker.cluster.inject(SEND, Drop(), times=0)
            broker.cluster.inject(SEND, Reply(1), probability=0.5)
            codes.extend([(await broker.send(b"x")).code for _ in range(40)])

        codes: list[int] = []
        with_broker(main)
        return codes

    assert hits(0) == hits(3)
    assert set(hits(0)) == {0, 1}


def test_call_that_is_given_up_is_not_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """`inject` that fails, because the cluster's loop is held, installs nothing once the loop is free again."""
    monkeypatch.setattr(threads, "CALL_TIMEOUT", 0.05)
    held, free = threading.Event(), threading.Event()

    def hold(_: object) -> bool:
        held.set()
        return not free.wait(30)

    with Cluster(topics={"T": 1}) as cluster:
        cluster.inject(SEND, Drop(), when=hold)

        async def main() -> None:
            async with Producer("g", namesrv=cluster.namesrv) as producer:
                sending = asyncio.ensure_future(producer.send(Message("T", b"x")))
                await asyncio.to_thread(held.wait)
                with pytest.raises(StateError, match="did not answer"):
                    await asyncio.to_thread(cluster.inject, SEND, Reply(1))
                free.set()
                assert (await sending).ok
                monkeypatch.undo()
                assert (await producer.send(Message("T", b"y"))).ok
                assert len(cluster._servers.rules.installed) == 1

        asyncio.run(main())


def test_in_a_thread_of_its_own() -> None:
    """Under a plain `with` injections work from any thread, and outlive neither the block nor the cluster."""
    with Cluster(topics={"T": 1}) as cluster:

        async def send(body: bytes) -> object:
            async with Producer("g", namesrv=cluster.namesrv) as producer:
                try:
                    return await producer.send(Message("T", body))
                except SendRejectedError as error:
                    return error.__cause__

        with cluster.inject(SEND, Reply(ResponseCode.SYSTEM_BUSY), times=1) as injection:
            assert isinstance(asyncio.run(send(b"x")), SystemBusyError)
            assert not isinstance(asyncio.run(send(b"y")), SystemBusyError)
        assert injection.hits == 1
        assert repr(injection).startswith("<Injection Reply(code=") and repr(injection).endswith("1 hits>")
        left = cluster.inject(SEND, Drop())
    left.remove()
    with pytest.raises(ClosedError):
        cluster.inject(SEND, Drop())


def test_from_another_thread() -> None:
    """A cluster that belongs to its loop's thread refuses others, whichever side asks."""

    async def main() -> None:
        async with Cluster() as cluster:
            injection = cluster.inject(SEND, Drop())
            for call in (injection.remove, lambda: cluster.inject(SEND, Drop())):
                with pytest.raises(WrongLoopError):
                    await asyncio.get_running_loop().run_in_executor(None, call)

    asyncio.run(main())
