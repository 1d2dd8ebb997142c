"""Starting, closing, aborting, cancelling, forgetting: nothing is lost silently and nothing is left behind.

Every test runs in virtual time and on real sockets.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from rocketmq_aio import (
    ClosedError,
    Message,
    Producer,
    ProducerConfig,
    RocketMQError,
    SendConnectionError,
    SendError,
    State,
    StateError,
    Window,
)
from rocketmq_aio.environment import Environment
from tests.support.servers import Server, broker, name_server, reply, silent
from tests.support.worlds import NOTHING, WORLDS, counting, leftovers, run_in, until

pytestmark = pytest.mark.parametrize("world", WORLDS)


class Held:
    """A broker that answers sends only when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, Any]] = []
        self.arrived = asyncio.Event()

    def __call__(self, connection: Any, request: Any) -> None:
        if request.code == 310:
            self.waiting.append((connection, request))
            self.arrived.set()
        elif not request.is_oneway:
            reply(connection, request, fields={})

    def answer(self) -> None:
        for n, (connection, request) in enumerate(self.waiting):
            reply(connection, request, fields={"queueId": "0", "queueOffset": str(n)})
        self.waiting.clear()


def with_servers(
    world: str,
    handler: Callable[[], Any],
    test: Callable[[Producer, Any, Any], Awaitable[Any]],
    **options: Any,
) -> None:
    """Run `test(producer, handler, network)` with a started producer, one queue, and a broker with that handler."""

    async def main(environment: Environment) -> None:
        counted, network = counting(environment)
        handle = handler()
        async with Server(environment, handle) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"T": 1})) as ns:
                config = ProducerConfig(**options)
                producer = Producer("g", namesrv=ns.addr, environment=counted, config=config)
                await producer.start()
                await test(producer, handle, network)
                await producer.aclose()
                assert leftovers(network) == NOTHING

    run_in(world, main)


def send(producer: Producer, body: bytes = b"x", **options: Any) -> asyncio.Task[Any]:
    return asyncio.ensure_future(producer.send(Message("T", body), **options))


def test_closing_waits_for_what_is_in_flight(world: str) -> None:
    """`aclose` refuses new sends, waits for the answers to those in flight, and reports."""

    async def test(producer: Producer, held: Held, network: Any) -> None:
        sends = [send(producer) for _ in range(5)]
        await held.arrived.wait()
        closing = asyncio.ensure_future(producer.aclose())
        await asyncio.sleep(0)
        assert producer.state is State.CLOSING
        with pytest.raises(ClosedError):
            await producer.send(Message("T", b"late"))
        await until(lambda: len(held.waiting) == 5)
        held.answer()
        report = await closing
        assert [result.ok for result in await asyncio.gather(*sends)] == [True] * 5
        assert (report.sent, report.failed, report.abandoned) == (5, 0, 0)
        assert producer.state is State.CLOSED
        assert await producer.aclose() is report
        assert leftovers(network) == NOTHING

    with_servers(world, Held, test)


def test_closing_is_bounded(world: str) -> None:
    """What is not answered within `drain` fails with an error that says whether it may be stored."""

    async def test(producer: Producer, held: Held, network: Any) -> None:
        sends = [send(producer) for _ in range(3)]
        await held.arrived.wait()
        report = await producer.aclose(drain=0.01)
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert report.abandoned == 3
        assert all(isinstance(outcome, SendConnectionError) and outcome.maybe_stored for outcome in outcomes)
        assert "the producer was closed" in str(outcomes[0])
        assert producer.stats().failed == {"SendConnectionError": 3}
        assert leftovers(network) == NOTHING

    with_servers(world, Held, test)


def test_closing_while_sends_wait_for_room(world: str) -> None:
    """Those in line outside the window are let in while there is time, and turned away with the rest after it."""

    async def test(producer: Producer, held: Held, network: Any) -> None:
        sends = [send(producer) for _ in range(3)]
        await held.arrived.wait()
        report = await producer.aclose(drain=0.01)
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert report.abandoned == 3
        assert isinstance(outcomes[0], SendConnectionError) and outcomes[0].maybe_stored
        assert all(isinstance(outcome, ClosedError) for outcome in outcomes[1:])

    with_servers(world, Held, test, window=Window(messages_max=1))


@pytest.mark.parametrize("where", ["route", "connection"])
def test_closing_while_sends_wait_for(world: str, where: str) -> None:
    """A send that waits for a route or a connection when the producer is aborted gets a ClosedError, not a cancel."""

    async def main(environment: Environment) -> None:
        _, network = counting(environment)
        waiting = asyncio.Event()

        class Stuck:
            """A network in which connecting never ends."""

            listen = environment.network.listen

            async def connect(self, factory: Any, host: str, port: int) -> Any:
                if where == "route" or port == 7:
                    waiting.set()
                    await asyncio.Event().wait()
                return await network.connect(factory, host, port)

        stuck = msgspec.structs.replace(environment, network=Stuck())
        async with Server(environment, name_server({"broker-a": "127.0.0.1:7"}, {"T": 1})) as ns:
            producer = Producer("g", namesrv=ns.addr, environment=stuck)
            await producer.start()
            sends = [send(producer) for _ in range(3)]
            await waiting.wait()
            producer.abort()
            for outcome in await asyncio.gather(*sends, return_exceptions=True):
                assert isinstance(outcome, ClosedError) and where in str(outcome)
            await producer.aclose()
            assert leftovers(network) == NOTHING

    run_in(world, main)


def test_two_close_at_once(world: str) -> None:
    """The second one gets the report of the first."""

    async def test(producer: Producer, held: Held, network: Any) -> None:
        task = send(producer)
        await held.arrived.wait()
        first = asyncio.ensure_future(producer.aclose(drain=0.01))
        second = asyncio.ensure_future(producer.aclose(drain=60.0))
        assert (await second) is (await first)
        await asyncio.wait([task])
        assert isinstance(task.exception(), SendError)

    with_servers(world, Held, test)


def test_cancelled_close_aborts(world: str) -> None:
    """Cancelling `aclose` closes at once all the same."""

    async def test(producer: Producer, held: Held, network: Any) -> None:
        task = send(producer)
        await held.arrived.wait()
        closing = asyncio.ensure_future(producer.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing, task])
        assert closing.cancelled()
        assert isinstance(task.exception(), SendError)
        assert producer.state is State.CLOSED
        assert (await producer.aclose()).abandoned == 1

    with_servers(world, Held, test)


def test_left_by_an_exception(world: str) -> None:
    """`async with` left by an exception closes and lets it through unchanged; left by a cancellation it aborts."""

    async def main(environment: Environment) -> None:
        counted, network = counting(environment)
        async with Server(environment, broker()) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"T": 1})) as ns:
                with pytest.raises(KeyError, match="mine"):
                    async with Producer("g", namesrv=ns.addr, environment=counted) as producer:
                        await producer.send(Message("T", b"x"))
                        raise KeyError("mine")
                assert producer.state is State.CLOSED
                assert [request.code for request in b.requests][-1] == 35

                sent = asyncio.Event()

                async def inside() -> None:
                    async with Producer("g", namesrv=ns.addr, environment=counted) as second:
                        await second.send(Message("T", b"x"))
                        sent.set()
                        await asyncio.Event().wait()

                task = asyncio.ensure_future(inside())
                await sent.wait()
                before = len(b.requests)
                task.cancel()
                await asyncio.wait([task])
                await until(lambda: all(connection.closed for connection in b.connections))
                assert task.cancelled() and len(b.requests) == before
        assert network.still_open() == []

    run_in(world, main)


def test_started_and_closed_by_different_tasks(world: str) -> None:
    """Web frameworks and async fixtures do that."""

    async def main(environment: Environment) -> None:
        counted, network = counting(environment)
        async with Server(environment, broker()) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"T": 1})) as ns:
                producer = Producer("g", namesrv=ns.addr, environment=counted)
                await asyncio.create_task(producer.start())
                assert (await asyncio.create_task(producer.send(Message("T", b"x")))).ok
                await asyncio.create_task(producer.aclose())
                assert leftovers(network) == NOTHING

    run_in(world, main)


def test_start_that_fails(world: str) -> None:
    """With topics, `start` raises what stands in the way, and leaves nothing."""

    async def main(environment: Environment) -> None:
        counted, network = counting(environment)
        async with Server(environment, name_server({}, {})) as ns:
            producer = Producer("g", namesrv=ns.addr, environment=counted, topics=["T"])
            with pytest.raises(RocketMQError, match="'T'"):
                await producer.start()
            assert producer.state is State.CLOSED
            await producer.aclose()
            assert leftovers(network) == NOTHING
        async with Server(environment, silent) as ns:
            producer = Producer(
                "g", namesrv=ns.addr, environment=counted, topics=["T"], config=ProducerConfig(send_timeout=0.1)
            )
            with pytest.raises(TimeoutError, match=r"not ready in 0\.1 s"):
                await producer.start()
            await producer.aclose()
            assert leftovers(network) == NOTHING

    run_in(world, main)


def test_cancelled_send_leaves_nothing(world: str) -> None:
    """A cancelled send gives its room back at once; its entry ends with its deadline; a late answer is counted."""

    async def test(producer: Producer, held: Held, network: Any) -> None:
        task = send(producer)
        await held.arrived.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        stats = producer.stats()
        assert (stats.in_flight, stats.in_flight_bytes, stats.cancelled_unknown) == (0, 0, 1)
        held.answer()
        second = send(producer)
        held.arrived.clear()
        await held.arrived.wait()
        held.answer()
        assert (await second).ok
        assert producer.stats().late_answers == 1
        assert producer.stats().sent == 1

    with_servers(world, Held, test)


def test_caller_with_a_timeout_of_its_own(world: str) -> None:
    """`asyncio.timeout` around a send works as everywhere."""

    async def test(producer: Producer, held: Any, network: Any) -> None:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await producer.send(Message("T", b"x"))
        assert producer.stats().cancelled_unknown == 3 - 0
        assert producer.stats().failed == {}

    with_servers(world, lambda: silent, test)


def test_cancelled_at_every_await(world: str) -> None:
    """Cancelled after n steps of the loop, for every n: room is back, nothing leaks, the next send works."""

    async def main(environment: Environment) -> None:
        outcomes = set()
        for turns in range(60 if world == "virtual" else 25):
            counted, network = counting(environment)
            async with Server(environment, broker()) as b:
                async with Server(environment, name_server({"broker-a": b.addr}, {"T": 1})) as ns:
                    async with Producer("g", namesrv=ns.addr, environment=counted) as producer:
                        task = send(producer)
                        for _ in range(turns):  # turns alone do not move virtual time
                            await asyncio.sleep(0.00005 if world == "virtual" else 0)
                        task.cancel()
                        await asyncio.wait([task])
                        outcomes.add(task.cancelled())
                        assert producer.stats().in_flight == 0
                        assert (await producer.send(Message("T", b"x"))).ok
                    assert leftovers(network) == NOTHING
        assert True in outcomes
        assert world != "virtual" or outcomes == {True, False}  # every await was met, and the end too

    run_in(world, main)


def test_forgotten_producer_warns(world: str) -> None:
    """A producer that is collected while it runs gives a ResourceWarning, and its sockets are closed."""

    async def main(environment: Environment) -> None:
        counted, network = counting(environment)
        async with Server(environment, broker()) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"T": 1})) as ns:
                producer = Producer("forgotten", namesrv=ns.addr, environment=counted)
                await producer.start()
                await producer.send(Message("T", b"x"))
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    del producer
                    gc.collect()
                assert ["'forgotten' was never closed" in str(w.message) for w in caught] == [True]
                await until(lambda: leftovers(network) == NOTHING)

    run_in(world, main)


def test_crash_of_a_background_task_is_heard(world: str) -> None:
    """A bug in background work fails the producer; the next call and `aclose` raise it."""

    async def main(environment: Environment) -> None:
        counted, network = counting(environment)
        async with Server(environment, broker()) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"T": 1})) as ns:
                producer = Producer("g", namesrv=ns.addr, environment=counted)
                await producer.start()
                await producer.send(Message("T", b"x"))

                async def bug() -> None:
                    raise ZeroDivisionError("a bug")

                producer._service.every("bug", 60, bug, first=0)
                await until(lambda: producer.state is State.FAILED)
                with pytest.raises(StateError, match="ZeroDivisionError") as caught:
                    await producer.send(Message("T", b"x"))
                assert isinstance(caught.value.__cause__, ZeroDivisionError)
                with pytest.raises(StateError, match="ZeroDivisionError"):
                    await producer.aclose()
                assert leftovers(network) == NOTHING

    run_in(world, main)


def test_report_of_a_cancelled_close_is_true(world: str) -> None:
    """Sends whose answers had come when everything was cut off are sent, not abandoned."""

    async def test(producer: Producer, held: Held, network: Any) -> None:
        sends = [send(producer) for _ in range(3)]
        await until(lambda: len(held.waiting) == 3)
        closing = asyncio.ensure_future(producer.aclose())
        held.answer()
        if world != "virtual":  # turns alone do not move virtual time
            while not any(task.done() for task in sends):
                await asyncio.sleep(0)
        closing.cancel()
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        report = await producer.aclose()
        acknowledged = sum(not isinstance(outcome, BaseException) for outcome in outcomes)
        assert (report.sent, report.abandoned) == (acknowledged, 3 - acknowledged)

    with_servers(world, Held, test)


def test_turned_away_is_counted(world: str) -> None:
    """Sends that closing turns away from the window's line are failures in `stats()`."""

    async def test(producer: Producer, held: Held, network: Any) -> None:
        sends = [send(producer) for _ in range(3)] + [
            asyncio.ensure_future(producer.send_oneway(Message("T", b"x")))  # type: ignore[list-item]
        ]
        await held.arrived.wait()
        producer.abort()
        await asyncio.gather(*sends, return_exceptions=True)
        assert producer.stats().failed == {"SendConnectionError": 1, "ClosedError": 3}

    with_servers(world, Held, test, window=Window(messages_max=1))


def test_send_in_a_cancelled_task(world: str) -> None:
    """A task that handles its own cancellation by sending gets a ClosedError when the producer closes meanwhile."""

    async def main(environment: Environment) -> None:
        async with Server(environment, silent) as ns:
            producer = Producer("g", namesrv=ns.addr, environment=environment)
            await producer.start()

            async def work() -> None:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    with pytest.raises(ClosedError):
                        await producer.send(Message("T", b"last words"))
                    raise

            task = asyncio.ensure_future(work())
            await asyncio.sleep(0)
            task.cancel()
            await until(lambda: ns.requests)
            producer.abort()
            await asyncio.wait([task])
            assert task.cancelled()
            await producer.aclose()

    run_in(world, main)


def test_closing_without_patience(world: str) -> None:
    """`drain=0` waits for nobody, not even for brokers to confirm that the producer leaves."""

    async def test(producer: Producer, handler: Any, network: Any) -> None:
        task = send(producer)
        await until(lambda: sum(c.pending_count for c in producer._pool.connections.values()) == 2)  # and a heartbeat
        report = await producer.aclose(drain=0)
        assert world != "virtual" or report.elapsed < 0.01  # real time is the machine's
        await asyncio.wait([task])
        assert isinstance(task.exception(), SendError)

    with_servers(world, lambda: silent, test)
