"""What goes wrong ends in the right typed error, within the deadline, with words that help, and leaves nothing behind.

Every test runs in virtual time and on real sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rocketmq_aio import (
    ClientConfig,
    ClosedError,
    ConfigError,
    Message,
    MessageError,
    NameServersUnavailableError,
    NoRouteError,
    NotStartedError,
    NoWritableQueueError,
    Producer,
    ProducerConfig,
    RocketMQError,
    SendConnectionError,
    SendError,
    SendRejectedError,
    SendTimeoutError,
    StateError,
    SystemBusyError,
    WrongLoopError,
)
from rocketmq_aio.environment import Environment
from tests.support.servers import Babbler, Server, broker, name_server, reply, silent
from tests.support.worlds import NOTHING, WORLDS, counting, leftovers, run_in

pytestmark = pytest.mark.parametrize("world", WORLDS)

TIMEOUT = 0.3
#: A deadline is met at most one scan late; the rest is for a busy machine, and only for real time.
SLACK = {"virtual": 0.051, "loopback": 5.0, "uvloop": 5.0}


def config(**options: Any) -> ProducerConfig:
    return ProducerConfig(send_timeout=TIMEOUT, **options)


async def fails(
    world: str,
    environment: Environment,
    namesrv: str,
    kind: type[RocketMQError],
    *words: str,
    message: Message | None = None,
    times: int = 1,
    options: ProducerConfig | None = None,
) -> RocketMQError:
    """Send, expect the error, and count what the closed producer left."""
    counted, network = counting(environment)
    monotonic = environment.clock.monotonic
    async with Producer("group", namesrv=namesrv, config=options or config(), environment=counted) as producer:
        for _ in range(times):
            started = monotonic()
            with pytest.raises(kind) as caught:
                await producer.send(message or Message("topic", b"body"))
            elapsed = monotonic() - started
        assert elapsed <= TIMEOUT + SLACK[world]
        assert producer.stats().failed == {type(caught.value).__name__: times}
        assert producer.stats().in_flight == producer.stats().in_flight_bytes == 0
    assert leftovers(network) == NOTHING
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in: {caught.value}"
    return caught.value


def in_world(world: str, test: Callable[[Environment], Awaitable[Any]]) -> Any:
    return run_in(world, test)


def test_nothing_listens_at_the_name_server_address(world: str) -> None:
    """A wrong address is a NameServersUnavailableError which names it and says what to check."""

    async def main(environment: Environment) -> None:
        async with Server(environment, silent) as gone:
            addr = gone.addr
        error = await fails(world, environment, addr, NameServersUnavailableError, addr, "NAMESRV_ADDR")
        assert list(error.answers) == [addr]
        assert "Cannot connect" in error.answers[addr]
        assert error.retryable and not error.maybe_stored

    in_world(world, main)


def test_a_silent_name_server_costs_the_deadline_and_says_where_the_send_waited(world: str) -> None:
    """The send times out without an attempt, and its text names the name server that it waited for."""

    async def main(environment: Environment) -> None:
        async with Server(environment, silent) as server:
            error = await fails(
                world, environment, server.addr, SendTimeoutError, "for the route of topic 'topic'", server.addr
            )
            assert error.attempts == () and not error.maybe_stored

    in_world(world, main)


def test_a_name_server_that_is_an_http_server(world: str) -> None:
    """Bytes of another protocol kill that connection only, and the error says what they look like."""

    async def main(environment: Environment) -> None:
        async with Babbler(environment, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") as ns:
            error = await fails(world, environment, ns.addr, NameServersUnavailableError, ns.addr, "HTTP")
            assert "not the remoting protocol" in error.answers[ns.addr]

    in_world(world, main)


def test_one_dead_name_server_of_two_costs_nothing(world: str) -> None:
    """The other one is asked within the same look-up."""

    async def main(environment: Environment) -> None:
        async with Server(environment, silent) as gone:
            dead = gone.addr
        async with Server(environment, broker()) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"topic": 1})) as ns:
                for namesrv in ([dead, ns.addr], [ns.addr, dead]):
                    async with Producer("g", namesrv=namesrv, config=config(), environment=environment) as producer:
                        assert (await producer.send(Message("topic", b"body"))).ok

    in_world(world, main)


def test_unknown_topic(world: str) -> None:
    """A topic without a route is a NoRouteError that names it."""

    async def main(environment: Environment) -> None:
        async with Server(environment, name_server({}, {})) as ns:
            await fails(world, environment, ns.addr, NoRouteError, "'topic'", "Create the topic")

    in_world(world, main)


def test_topic_without_write_permission(world: str) -> None:
    """A route whose queues take no messages is a NoWritableQueueError; the route is looked up again each time."""

    async def main(environment: Environment) -> None:
        async with Server(environment, name_server({"broker-a": "127.0.0.1:1"}, {"topic": 4}, perm=4)) as ns:
            await fails(world, environment, ns.addr, NoWritableQueueError, "'topic'", "permission", times=2)
            assert len(ns.requests) == 2

    in_world(world, main)


def test_broker_that_cannot_be_reached(world: str) -> None:
    """A refused connection is a SendConnectionError that names broker, address and address map; again at once."""

    async def main(environment: Environment) -> None:
        async with Server(environment, silent) as gone:
            addr = gone.addr
        async with Server(environment, name_server({"broker-a": addr}, {"topic": 1})) as ns:
            error = await fails(
                world, environment, ns.addr, SendConnectionError, "broker-a", addr, "address_map", "not stored", times=3
            )
            assert isinstance(error, SendError) and isinstance(error, ConnectionError)
            assert not error.maybe_stored and error.retryable
            (attempt,) = error.attempts
            assert attempt.queue.broker_name == "broker-a" and attempt.address == addr

    in_world(world, main)


def test_broker_that_never_answers(world: str) -> None:
    """The send ends by its deadline with a SendTimeoutError: the message may be stored."""

    async def main(environment: Environment) -> None:
        async with Server(environment, silent) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"topic": 1})) as ns:
                error = await fails(
                    world, environment, ns.addr, SendTimeoutError, "broker-a", b.addr, "It may be stored", times=2
                )
                assert error.maybe_stored and isinstance(error, TimeoutError)
                assert len(error.attempts) == 1 and error.message_id in str(error)

    in_world(world, main)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff\x00\x00\x00\x00",
        b"\x00\x00\x00\x0c\x00\x00\x00\x08nonsense",
        b"\x00\x00\x00\x05\x07\x00\x00\x01x",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
    ids=["negative length", "no JSON", "unknown type", "ssh"],
)
def test_broker_that_sends_garbage(world: str, garbage: bytes) -> None:
    """Garbage is a SendConnectionError caused by a RemoteProtocolError; the message may be stored."""

    async def main(environment: Environment) -> None:
        # Not in answer to the heartbeat before: then the send may not have been written yet.
        async with Babbler(environment, garbage, when=b'"code":310') as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"topic": 1})) as ns:
                words = "not the remoting protocol", b.addr
                error = await fails(world, environment, ns.addr, SendConnectionError, *words)
                assert error.maybe_stored

    in_world(world, main)


def test_broker_that_hangs_up(world: str) -> None:
    """A connection that breaks after the request was written: the message may be stored."""

    async def main(environment: Environment) -> None:
        async with Server(environment, lambda connection, request: connection.abort()) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"topic": 1})) as ns:
                error = await fails(world, environment, ns.addr, SendConnectionError, "broker-a", times=2)
                assert error.maybe_stored

    in_world(world, main)


def test_broker_that_refuses(world: str) -> None:
    """A response code is a SendRejectedError with code and remark; its cause is the typed error."""

    async def main(environment: Environment) -> None:
        busy = "[REJECTREQUEST]system busy, start flow control for a while"
        async with Server(environment, lambda connection, request: reply(connection, request, 2, remark=busy)) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"topic": 1})) as ns:
                error = await fails(world, environment, ns.addr, SendRejectedError, "SYSTEM_BUSY", busy)
                assert error.code == 2 and error.remark == busy and not error.maybe_stored
                assert isinstance(error.__cause__, SystemBusyError)

    in_world(world, main)


def test_acknowledgement_without_an_offset(world: str) -> None:
    """A success that does not say where the message is breaks the protocol; the message may be stored."""

    async def main(environment: Environment) -> None:
        async with Server(environment, lambda connection, request: reply(connection, request, fields={})) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"topic": 1})) as ns:
                error = await fails(world, environment, ns.addr, SendConnectionError, "without saying where")
                assert error.maybe_stored

    in_world(world, main)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Message("topic", b"x" * 1001), ["1,001", "1,000", "max_message_bytes"]),
        (Message("topic", b""), ["empty"]),
        (Message("to pic", b"x"), ["'to pic'", "letters"]),
        (Message("t" * 128, b"x"), ["128", "127"]),
        (Message("", b"x"), ["blank"]),
        (Message("rmq_sys_wheel_timer", b"x"), ["belongs to the broker"]),
        (Message("topic", b"x", flag=2**31), [str(2**31), "32 bits"]),
        (Message("topic", b"x", properties={"UNIQ_KEY": "1"}), ["UNIQ_KEY", "belongs to RocketMQ"]),
        (Message("topic", b"x", properties={"a": "b\x02c"}), ["'a'", "U+0002"]),
        (Message("topic", b"x", tags="\ud800"), ["D800", "UTF-8"]),
        (Message("topic", b"x", keys=["a b"]), ["'a b'", "blanks"]),
        (Message("topic", b"x", properties={"a": "b" * 40_000}), ["40,", "limit"]),
    ],
)
def test_message_that_cannot_be_sent(world: str, message: Message, words: list[str]) -> None:
    """It is refused at once, naming value, limit and remedy, on the slow path and on the warm one; nothing is sent."""

    async def main(environment: Environment) -> None:
        async with Server(environment, broker()) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"topic": 1})) as ns:
                options = config(max_message_bytes=1000)
                await fails(world, environment, ns.addr, MessageError, *words, message=message, options=options)
                async with Producer("g", namesrv=ns.addr, config=options, environment=environment) as producer:
                    await producer.send(Message("topic", b"warm"))
                    before = len(b.requests)
                    with pytest.raises(MessageError, match=r"limit|empty|Use|Leave|Send|Remove|Give|Decode"):
                        await producer.send(message)
                    assert len(b.requests) == before

    in_world(world, main)


def test_wrong_types(world: str) -> None:
    """A wrong type is a TypeError, raised before anything is done."""

    async def main(environment: Environment) -> None:
        async with Producer("g", namesrv="127.0.0.1:1", environment=environment) as producer:
            with pytest.raises(TypeError, match="Message, not bytes"):
                await producer.send(b"body")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="send_timeout must be seconds"):
                await producer.send(Message("t", b"x"), send_timeout="3")  # type: ignore[arg-type]
            with pytest.raises(ConfigError, match="more than 0 seconds"):
                await producer.send(Message("t", b"x"), send_timeout=0)
            with pytest.raises(TypeError, match="topic must be a str"):
                await producer.queues(7)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="body must be bytes, not str"):
            Message("t", "text")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="NAMESRV_ADDR"):
            Producer("g", namesrv="")
        with pytest.raises(ConfigError, match="group"):
            Producer("a b", namesrv="x")

    in_world(world, main)


def test_wrong_states(world: str) -> None:
    """Before start, after closing and on another loop: an immediate StateError that says what to do."""

    async def main(environment: Environment) -> None:
        producer = Producer("g", namesrv="127.0.0.1:1", environment=environment)
        with pytest.raises(NotStartedError, match="async with"):
            await producer.send(Message("t", b"x"))
        await producer.start()
        with pytest.raises(StateError, match="cannot be started again"):
            await producer.start()
        await producer.aclose()
        for call in (
            lambda: producer.send(Message("t", b"x")),
            lambda: producer.send_oneway(Message("t", b"x")),
            lambda: producer.queues("t"),
            producer.ping,
        ):
            with pytest.raises(ClosedError, match="closed"):
                await call()
        assert (await producer.aclose()).abandoned == 0
        producer.abort()

        never = Producer("g", namesrv="127.0.0.1:1", environment=environment)
        assert (await never.aclose()).elapsed == 0.0

    in_world(world, main)


def test_another_loop(world: str) -> None:
    """A producer belongs to the loop that started it; the error shows run_coroutine_threadsafe."""
    if world != "loopback":
        pytest.skip("A second loop in a second thread only makes sense in real time.")

    async def main(environment: Environment) -> None:
        async with Producer("g", namesrv="127.0.0.1:1", environment=environment) as producer:

            def elsewhere() -> BaseException | None:
                async def use() -> None:
                    await producer.send(Message("t", b"x"))

                try:
                    asyncio.run(use())
                except WrongLoopError as error:
                    assert "run_coroutine_threadsafe" in str(error)
                else:
                    raise AssertionError("no error")
                with pytest.raises(WrongLoopError, match="call_soon_threadsafe"):
                    producer.abort()
                return None

            await asyncio.to_thread(elsewhere)

    in_world(world, main)


def test_name_servers_that_disagree(world: str) -> None:
    """A topic that one name server does not know is asked of the others, before anybody says that it has no route."""

    async def main(environment: Environment) -> None:
        async with Server(environment, name_server({}, {})) as empty, Server(environment, broker()) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"topic": 1})) as full:
                for namesrv in ([empty.addr, full.addr], [full.addr, empty.addr]):
                    async with Producer("g", namesrv=namesrv, config=config(), environment=environment) as producer:
                        assert (await producer.send(Message("topic", b"body"))).ok
                        with pytest.raises(NoRouteError, match="at the name servers that answered"):
                            await producer.send(Message("elsewhere", b"body"))

    in_world(world, main)


@pytest.mark.parametrize(("queue_id", "offset"), [("-1", "0"), ("0", "-5"), ("0", None), (None, "0")])
def test_nonsense_acknowledgement(world: str, queue_id: str | None, offset: str | None) -> None:
    """An acknowledgement that cannot be true is no success, on the slow path and on the warm one."""

    async def main(environment: Environment) -> None:
        fields = {name: text for name, text in (("queueId", queue_id), ("queueOffset", offset)) if text is not None}
        answers = [{"queueId": "0", "queueOffset": "1"}, fields, fields]

        def handle(connection: Any, request: Any) -> None:
            reply(connection, request, fields=answers.pop(0) if request.code == 310 else {})

        async with Server(environment, handle) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"topic": 1})) as ns:
                async with Producer("g", namesrv=ns.addr, config=config(), environment=environment) as producer:
                    await producer.send(Message("topic", b"body"))
                    for timeout in (None, 1.0):
                        with pytest.raises(SendConnectionError, match="without saying where") as caught:
                            await producer.send(Message("topic", b"body"), send_timeout=timeout)
                        assert caught.value.maybe_stored

    in_world(world, main)


def test_route_of_a_liar(world: str) -> None:
    """Long broker names and endless queues are refused: a small answer must not fill the memory."""

    async def main(environment: Environment) -> None:
        addr = "127.0.0.1:1"
        for brokers, queues in (({"b" * 256: addr}, 10), ({"b": "1" * 256}, 10), ({"b": addr}, 65_537)):
            async with Server(environment, name_server(brokers, {"topic": queues})) as ns:
                await fails(world, environment, ns.addr, NameServersUnavailableError, "the limit is")

    in_world(world, main)


def test_many_queues_are_prepared_as_they_are_used(world: str) -> None:
    """A route of 65,536 queues costs no header for each before its turn."""

    async def main(environment: Environment) -> None:
        async with Server(environment, broker()) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"topic": 65_536})) as ns:
                async with Producer("g", namesrv=ns.addr, environment=environment) as producer:
                    for _ in range(3):
                        await producer.send(Message("topic", b"body"))
                    prepared = [lane for lane in producer._lanes["topic"].lanes if lane.template]
                    assert len(prepared) == 3 and not any(lane.oneway_template for lane in prepared)

    in_world(world, main)


def test_address_map_that_raises(world: str) -> None:
    """The user's function is to blame, and the error says so; the producer goes on."""

    async def main(environment: Environment) -> None:
        async with Server(environment, broker()) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"topic": 1})) as ns:

                def only_name_server(addr: str) -> str:
                    return {ns.addr: addr}[addr]

                options = config(client=ClientConfig(address_map=only_name_server, reconnect_backoff=(0, 0)))
                words = "address_map raised KeyError"
                error = await fails(world, environment, ns.addr, SendConnectionError, words, times=2, options=options)
                assert not error.maybe_stored

    in_world(world, main)


def test_what_is_no_environment(world: str) -> None:
    """A cluster in the place of its environment is refused when the producer is made."""
    with pytest.raises(ConfigError, match=r"cluster\.environment"):
        Producer("g", namesrv="x", environment=7)  # type: ignore[arg-type]
    assert world
