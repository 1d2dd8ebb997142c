"""Injections in a running cluster: what a plain socket client sees of each verdict."""

from __future__ import annotations

import asyncio
import logging
import re
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
    RequestCode,
    ResponseCode,
    SendStatus,
)
from rocketmq_aio.environment import Environment
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.wire.frame import RemotingCommand
from tests.support.brokers import Broker, send_fields, with_broker
from tests.support.raw_client import RawClient
from tests.support.worlds import WORLDS, run_in

Send = Callable[[Broker], Awaitable[Any]]


def stored(broker: Broker) -> list[bytes]:
    return [message.body for message in broker.cluster.messages("T")]


async def unanswered(broker: Broker) -> None:
    """A send that is not answered within a minute."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await broker.send(b"silence")


@pytest.mark.parametrize(("phase", "there"), [("before", []), ("after", [b"x"])])
def test_reply(phase: Any, there: list[bytes]) -> None:
    """The rule's own answer, with remark and fields; before the handler nothing is stored, after it the message is."""

    async def main(broker: Broker) -> None:
        busy = Reply(ResponseCode.SYSTEM_BUSY, remark="[OVERLOAD]busy", fields={"a": "b"}, body=b"why", phase=phase)
        with broker.cluster.inject(SEND, busy) as injection:
            answer = await broker.send(b"x")
            assert (answer.code, answer.remark, answer.ext_fields) == (2, "[OVERLOAD]busy", {"a": "b"})
            assert (answer.language, answer.version, answer.body) == (0, 479, b"why")
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
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        broker.cluster.inject(SEND, Delay(10, phase))
        sending = asyncio.ensure_future(broker.send(b"x"))
        await asyncio.sleep(1)
        await broker.cluster.broker("broker-a").stop()
        with pytest.raises(ConnectionResetError):
            await sending
        await broker.cluster.broker("broker-a").start()
        await asyncio.sleep(20)
        assert (stored(broker), errors) == (there, [])
        await broker.cluster.broker("broker-a").stop()
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


@pytest.mark.parametrize("world", WORLDS)
def test_disconnect_leaves_the_answers_before_it_alone(world: str) -> None:
    """Requests that came in one piece are answered up to the one that breaks the connection, as the history says."""

    async def main(environment: Environment) -> None:
        async with Cluster(environment=environment, topics={"T": 1}) as cluster:
            cluster.inject(SEND, Disconnect(), after=5)
            async with RawClient(environment, cluster.broker("broker-a").address) as client:
                frames = [
                    RemotingCommand(310, number, ext_fields=send_fields(e="0"), body=b"x").encode()
                    for number in range(10)
                ]
                client.transport.write(b"".join(frames))
                await asyncio.wait_for(asyncio.shield(client.lost), 30)
                assert [(answer.opaque, answer.code) for answer in client.received] == [(n, 0) for n in range(5)]
            replied = [exchange.replied_at is not None for exchange in cluster.requests(*SEND)]
            assert replied == [True] * 5 + [False]

    run_in(world, main)


def test_many_are_delayed_at_once() -> None:
    """Delays that end at one instant are independent of each other, in whatever number."""

    async def main(broker: Broker) -> None:
        broker.cluster.inject(SEND, Delay(5))
        answers = await asyncio.gather(*[broker.send(b"x") for _ in range(3_000)])
        assert {answer.code for answer in answers} == {0}
        assert len(stored(broker)) == 3_000

    with_broker(main)


@pytest.mark.parametrize("phase", ["before", "after"])
def test_delayed_heartbeat_of_a_client_that_has_gone(phase: Any) -> None:
    """It leaves no client behind: what is done for a lost connection is undone, as if it had been lost afterwards."""

    async def main(broker: Broker) -> None:
        broker.cluster.inject(RequestCode.HEART_BEAT, Delay(10, phase))
        body = b'{"clientID":"c","producerDataSet":[{"groupName":"g"}]}'
        broker.client.post(RequestCode.HEART_BEAT, {}, body, flag=0)
        await asyncio.sleep(1)
        broker.client.transport.abort()
        await asyncio.sleep(20)
        clients = broker.cluster._servers.brokers["broker-a"].state.clients
        assert not any(vars(clients).values()), vars(clients)

    with_broker(main)


@simulate(topics={"T": 1})
async def test_delayed_registration_of_a_broker_that_has_stopped(cluster: Cluster) -> None:
    """A stopped broker does not come back by a registration that was under way."""
    with cluster.inject(RequestCode.REGISTER_BROKER, Delay(20)):
        await asyncio.sleep(31)  # the next registration
        await cluster.broker("broker-a").stop()
    await asyncio.sleep(60)
    async with RawClient(cluster.environment, cluster.namesrv) as client:
        assert (await client.call(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": "T"})).code == 17


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


def failing(_: bytes) -> bytes:
    pytest.fail("which is no Exception")


@pytest.mark.parametrize("wrong", [lambda frame: 1 / 0, lambda frame: 5, lambda frame: "text", failing])
def test_corrupt_that_fails(wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A function that fails, or returns no bytes, is logged; the answer stays as it was."""

    async def main(broker: Broker) -> None:
        with broker.cluster.inject(SEND, Corrupt(wrong)):
            assert (await broker.send(b"x")).code == 0

    with caplog.at_level(logging.ERROR, "broker_sim"):
        with_broker(main)
    assert re.search(r"broker-a: the function of an injection failed \(Corrupt\(.*\); request 310 goes on", caplog.text)


def test_cut_off_answer_is_in_the_history_as_it_was_written() -> None:
    """An exchange whose answer is no frame any more keeps its bytes, and says so when it is decoded."""

    async def main(broker: Broker) -> None:
        broker.cluster.inject(SEND, Corrupt(lambda frame: frame[:20]))
        await unanswered(broker)
        (exchange,) = broker.cluster.requests(*SEND)
        assert len(exchange.reply_frame) == 20
        with pytest.raises(LocalProtocolError, match="no whole frame"):
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


@pytest.mark.parametrize("verdict", [None, Duplicate(), Status(SendStatus.FLUSH_DISK_TIMEOUT), Drop("after"), Delay(1)])
def test_unreadable_request_still_costs_its_connection(verdict: Verdict | None) -> None:
    """Whatever reaches the handler is read there: what cannot be read closes the connection, and is recorded once."""

    async def main(broker: Broker) -> None:
        if verdict is not None:
            broker.cluster.inject(SEND, verdict)
        header = b'{"code":310,"opaque":1,"extFields":{"b":"\xff"}}'
        with pytest.raises(ConnectionResetError):
            await broker.client.exchange(
                (4 + len(header)).to_bytes(4, "big") + len(header).to_bytes(4, "big") + header, 1
            )
        (exchange,) = broker.cluster.requests(*SEND)
        assert (exchange.verdict, exchange.replied_at) == (verdict, None)

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
