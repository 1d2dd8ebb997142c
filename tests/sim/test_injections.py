"""Injections in a running cluster: what a plain socket client sees of each verdict, and what a producer makes of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

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
    Verdict,
    simulate,
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
    SystemBusyError,
    WrongLoopError,
)
from tests.support.brokers import Broker, with_broker

Send = Callable[[Broker], Awaitable[Any]]


def stored(broker: Broker) -> list[bytes]:
    return [message.body for message in broker.cluster.messages("T")]


async def unanswered(broker: Broker) -> None:
    """A send that is not answered within a minute."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await broker.send(b"silence")


# --- what a plain client sees


@pytest.mark.parametrize(("phase", "there"), [("before", []), ("after", [b"x"])])
def test_reply(phase: Any, there: list[bytes]) -> None:
    """The rule's own answer, with remark and fields; before the handler nothing is stored, after it the message is."""

    async def main(broker: Broker) -> None:
        busy = Reply(ResponseCode.SYSTEM_BUSY, remark="[OVERLOAD]busy", fields={"a": "b"}, phase=phase)
        with broker.cluster.inject(SEND, busy) as injection:
            answer = await broker.send(b"x")
            assert (answer.code, answer.remark, answer.ext_fields) == (2, "[OVERLOAD]busy", {"a": "b"})
            assert (answer.language, answer.version) == (0, 479)
            assert (stored(broker), injection.hits, injection.verdict) == (there, 1, busy)
        assert (await broker.send(b"y")).code == 0
        assert injection.hits == 1

    with_broker(main)


@pytest.mark.parametrize("status", list(SendStatus)[1:])
def test_status(status: SendStatus) -> None:
    """A stored message is acknowledged with the status, and the same fields; refusals and other requests stay."""

    async def main(broker: Broker) -> None:
        plain = await broker.send(b"x")
        with broker.cluster.inject(None, Status(status)):
            answer = await broker.send(b"x")
            refused = await broker.send(b"x", b="Unknown", c="UnknownToo")
            pulled = await broker.pull()
        assert plain.ext_fields is not None and answer.ext_fields is not None
        assert (answer.code, list(answer.ext_fields)) == (int(status), list(plain.ext_fields))
        assert answer.ext_fields["queueOffset"] == "1"
        assert (refused.code, pulled.code) == (ResponseCode.TOPIC_NOT_EXIST, 0)
        assert stored(broker) == [b"x", b"x"]

    with_broker(main)


@pytest.mark.parametrize(("phase", "at"), [("before", 10), ("after", 0)])
def test_delay(phase: Any, at: int) -> None:
    """The answer comes ten seconds later; what is behind it is not held up. The store time says when it took effect."""

    async def main(broker: Broker) -> None:
        clock = broker.cluster.environment.clock
        started, started_ms = clock.monotonic(), int(clock.wall() * 1000)
        with broker.cluster.inject(SEND, Delay(10, phase), times=1):
            late = asyncio.ensure_future(broker.send(b"late"))
            await asyncio.sleep(1)
            assert len(stored(broker)) == (phase == "after")
            assert (await broker.send(b"prompt")).code == 0
            assert not late.done()
        assert (await late).code == 0
        assert clock.monotonic() - started == pytest.approx(10, abs=0.1)
        (message,) = [message for message in broker.cluster.messages("T") if message.body == b"late"]
        assert (message.store_timestamp_ms - started_ms) // 1000 == at
        exchange = broker.cluster.requests(*SEND)[-1]
        assert exchange.replied_at is not None
        assert exchange.replied_at - exchange.received_at == pytest.approx(10)

    with_broker(main)


def test_delayed_request_takes_effect_without_its_client() -> None:
    """A client that has gone does not take back what the server has read."""

    async def main(broker: Broker) -> None:
        broker.cluster.inject(SEND, Delay(10))
        sending = asyncio.ensure_future(broker.send(b"x"))
        await asyncio.sleep(1)
        broker.client.transport.abort()
        with pytest.raises(ConnectionResetError):
            await sending
        assert stored(broker) == []
        await asyncio.sleep(10)
        assert stored(broker) == [b"x"]
        exchange = broker.cluster.requests(*SEND)[0]
        assert (exchange.replied_at, exchange.reply) == (None, None)

    with_broker(main)


@pytest.mark.parametrize(("phase", "there"), [("before", []), ("after", [b"x"])])
def test_stopped_server_forgets_what_it_has_delayed(phase: Any, there: list[bytes]) -> None:
    """A delayed request ends with its server: no effect that it has not had, no answer, and the history says so."""

    async def main(broker: Broker) -> None:
        broker.cluster.inject(SEND, Delay(10, phase))
        sending = asyncio.ensure_future(broker.send(b"x"))
        await asyncio.sleep(1)
        await broker.cluster.broker("broker-a").stop()
        with pytest.raises(ConnectionResetError):
            await sending
        await broker.cluster.broker("broker-a").start()
        await asyncio.sleep(20)
        assert stored(broker) == there
        (exchange,) = broker.cluster.requests(*SEND)
        assert (exchange.verdict, exchange.replied_at, exchange.reply_frame) == (Delay(10, phase), None, b"")

    with_broker(main)


@pytest.mark.parametrize(("phase", "there"), [("before", []), ("after", [b"silence"])])
def test_drop(phase: Any, there: list[bytes]) -> None:
    """No answer, ever; the connection lives."""

    async def main(broker: Broker) -> None:
        with broker.cluster.inject(SEND, Drop(phase)):
            await unanswered(broker)
            assert stored(broker) == there
        assert (await broker.send(b"y")).code == 0

    with_broker(main)


@pytest.mark.parametrize(("phase", "there"), [("before", []), ("after", [b"x"])])
def test_disconnect(phase: Any, there: list[bytes]) -> None:
    """The connection breaks instead of an answer."""

    async def main(broker: Broker) -> None:
        broker.cluster.inject(SEND, Disconnect(phase))
        with pytest.raises(ConnectionResetError):
            await broker.send(b"x")
        assert stored(broker) == there
        assert broker.cluster.requests(*SEND)[0].replied_at is None

    with_broker(main)


def test_duplicate() -> None:
    """The message is stored twice, and both are acknowledged, each at its own place."""

    async def main(broker: Broker) -> None:
        with broker.cluster.inject(SEND, Duplicate()):
            await broker.send(b"x")
        await broker.send(b"y")
        answers = [answer for answer in broker.client.received if answer.code == 0]
        assert [answer.opaque for answer in answers] == [1, 1, 2]
        assert [(answer.ext_fields or {})["queueOffset"] for answer in answers] == ["0", "1", "2"]
        assert stored(broker) == [b"x", b"x", b"y"]

    with_broker(main)


def test_corrupt() -> None:
    """The bytes of the answer are what the function makes of them."""

    async def main(broker: Broker) -> None:
        with broker.cluster.inject(SEND, Corrupt(lambda frame: frame.replace(b"DefaultRegion", b"ElsewhereLand"))):
            answer = await broker.send(b"x")
        assert (answer.ext_fields or {})["MSG_REGION"] == "ElsewhereLand"
        with broker.cluster.inject(SEND, Corrupt(lambda frame: b"")):
            await unanswered(broker)

    with_broker(main)


@pytest.mark.parametrize("wrong", [lambda frame: 1 / 0, lambda frame: 5, lambda frame: "text"])
def test_corrupt_that_fails(wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A function that fails, or returns no bytes, is logged; the answer stays as it was."""

    async def main(broker: Broker) -> None:
        with broker.cluster.inject(SEND, Corrupt(wrong)):
            assert (await broker.send(b"x")).code == 0

    with caplog.at_level(logging.ERROR, "broker_sim"):
        with_broker(main)
    assert "a function given to an injection failed" in caplog.text


def test_cut_off_answer_is_in_the_history_as_it_was_written() -> None:
    """An exchange whose answer is no frame any more keeps its bytes, and says so when it is decoded."""

    async def main(broker: Broker) -> None:
        broker.cluster.inject(SEND, Corrupt(lambda frame: frame[:20]))
        await unanswered(broker)
        (exchange,) = broker.cluster.requests(*SEND)
        assert len(exchange.reply_frame) == 20
        with pytest.raises(Exception, match="no whole frame"):
            _ = exchange.reply

    with_broker(main)


@pytest.mark.parametrize("verdict", [Reply(1), Status(SendStatus.FLUSH_DISK_TIMEOUT), Corrupt(bytes), Duplicate()])
def test_one_way_requests_stay_unanswered(verdict: Verdict) -> None:
    """No verdict makes a server answer where nobody waits."""

    async def main(broker: Broker) -> None:
        with broker.cluster.inject(RequestCode.UNREGISTER_CLIENT, verdict) as injection:
            broker.client.post(RequestCode.UNREGISTER_CLIENT, {"clientID": "c", "producerGroup": "g"})
            await broker.pull()
            assert injection.hits == 1
        assert len(broker.client.received) == 1

    with_broker(main)


@pytest.mark.parametrize("verdict", [Duplicate(), Status(SendStatus.FLUSH_DISK_TIMEOUT), Drop("after"), Delay(1)])
def test_unreadable_request_still_costs_its_connection(verdict: Verdict) -> None:
    """An injection is no way around the protocol: bytes that cannot be read close the connection, as without it."""

    async def main(broker: Broker) -> None:
        broker.cluster.inject(SEND, verdict)
        header = b'{"code":310,"opaque":1,"extFields":{"b":"\xff"}}'
        with pytest.raises(ConnectionResetError):
            await broker.client.exchange(
                (4 + len(header)).to_bytes(4, "big") + len(header).to_bytes(4, "big") + header, 1
            )

    with_broker(main)


def test_every_verdict_is_in_the_history() -> None:
    """An exchange says which verdict it had; `Pass` and no injection are none."""
    verdicts = [Reply(1), Drop(), Drop("after"), Duplicate(), Status(SendStatus.FLUSH_DISK_TIMEOUT), Delay(1)]

    async def main(broker: Broker) -> None:
        broker.cluster.inject(None, Pass())
        for verdict in verdicts:
            with broker.cluster.inject(SEND, verdict):
                sending = asyncio.ensure_future(broker.send(b"x"))
                await asyncio.sleep(2)
                sending.cancel()
        await broker.send(b"x")
        found = [exchange.verdict for exchange in broker.cluster.requests(*SEND)]
        assert found == [*verdicts[:4], Duplicate(), *verdicts[4:], None]

    with_broker(main)


# --- which servers, which requests


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


@simulate(topics={"T": 1}, name_servers=2)
async def test_name_servers_too(cluster: Cluster) -> None:
    """A name server is a server like the others: a silent one is asked in vain, and the other one answers."""
    codes = (RequestCode.GET_ROUTEINFO_BY_TOPIC,)
    with cluster.inject(codes, Drop(), broker="name-server-0") as injection:
        async with Producer("g", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
            assert (await producer.send(Message("T", b"x"))).ok
    assert injection.hits <= 1
    assert [exchange.server for exchange in cluster.requests(*codes) if exchange.reply] == ["name-server-1"]


def test_seeded_probability_is_the_same_in_every_run() -> None:
    """The seed decides which requests are hit; another injection beside it does not change that."""

    def run(seed: int, *, beside: bool = False) -> tuple[str, list[int]]:
        async def main(cluster: Cluster) -> tuple[str, list[int]]:
            injection = cluster.inject(SEND, Reply(1), probability=0.3)
            if beside:
                cluster.inject(RequestCode.PULL_MESSAGE, Reply(1), probability=0.3)
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


def test_digest_is_the_same_with_every_injection() -> None:
    """The same seed gives the same history, with all verdicts in the run."""

    def run(seed: int) -> str:
        async def main(cluster: Cluster) -> str:
            for verdict in (Reply(1), Delay(0.2), Delay(5, "after"), Drop(), Drop("after"), Disconnect(),
                            Disconnect("after"), Duplicate(), Status(SendStatus.FLUSH_DISK_TIMEOUT),
                            Corrupt(lambda frame: frame[:-1] + b"!")):  # fmt: skip
                cluster.inject(SEND, verdict, probability=0.1)
            async with Producer("g", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
                for _ in range(150):
                    try:
                        await producer.send(Message("T", b"x"), send_timeout=1)
                    except (SendTimeoutError, SendConnectionError, SendRejectedError):
                        pass
            return cluster.digest()

        return simulate.run(main, seed=seed, topics={"T": 4})

    assert run(1) == run(1) != run(2)


# --- what a producer makes of it


@pytest.mark.parametrize(
    ("verdict", "kind", "maybe_stored", "count"),
    [
        (Reply(ResponseCode.SYSTEM_BUSY, remark="busy"), SystemBusyError, False, 0),
        (Drop(), SendTimeoutError, True, 0),
        (Drop("after"), SendTimeoutError, True, 1),
        (Delay(5, "after"), SendTimeoutError, True, 1),
        (Disconnect(), SendConnectionError, True, 0),
        (Disconnect("after"), SendConnectionError, True, 1),
        (Corrupt(lambda frame: b"HTTP/1.1 400 Bad Request\r\n\r\n"), SendConnectionError, True, 1),
    ],
    ids=str,
)
def test_producer_tells_the_truth(verdict: Verdict, kind: type[Exception], maybe_stored: bool, count: int) -> None:
    """Each fault has its error, within the deadline; `maybe_stored` never denies what is stored. Then all is well."""

    async def main(cluster: Cluster) -> None:
        clock = cluster.environment.clock
        async with Producer("g", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
            await producer.send(Message("T", b"first"))
            with cluster.inject(SEND, verdict):
                started = clock.monotonic()
                with pytest.raises(Exception) as caught:
                    await producer.send(Message("T", b"x"), send_timeout=3)
                assert clock.monotonic() - started <= 3.06
            error: Any = caught.value
            kinds = {type(error), type(error.__cause__)}
            assert any(issubclass(one, kind) for one in kinds), kinds
            assert error.maybe_stored is maybe_stored
            assert len(cluster.messages("T")) == 1 + count
            assert (await producer.send(Message("T", b"last"))).ok

    simulate.run(main, topics={"T": 1})


@simulate(topics={"T": 1})
async def test_producer_and_status_duplicate_and_delay(cluster: Cluster) -> None:
    """A status is a result; a second acknowledgement disturbs nobody; a delay is waited for."""
    async with Producer("g", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
        with cluster.inject(SEND, Status(SendStatus.FLUSH_SLAVE_TIMEOUT)):
            result = await producer.send(Message("T", b"x"))
        assert (result.status, result.queue_offset) == (SendStatus.FLUSH_SLAVE_TIMEOUT, 0)
        with cluster.inject(SEND, Duplicate()):
            assert (await producer.send(Message("T", b"x"))).queue_offset == 1
        with cluster.inject(SEND, Delay(2)):
            result = await producer.send(Message("T", b"x"))
        assert result.queue_offset == 3 and result.elapsed == pytest.approx(2, abs=0.1)


# --- the handle


def test_wrong_arguments() -> None:
    """A server that does not exist, or no code, is refused at once; nothing is installed."""

    async def main(broker: Broker) -> None:
        with pytest.raises(ConfigError, match=r"no server 'broker-z'.*broker-a, name-server-0"):
            broker.cluster.inject(SEND, Drop(), broker="broker-z")
        with pytest.raises(ConfigError, match="no server 5"):
            broker.cluster.inject(SEND, Drop(), broker=5)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="is no verdict"):
            broker.cluster.inject(SEND, Drop)  # type: ignore[arg-type]
        assert (await broker.send(b"x")).code == 0

    with_broker(main)


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
