"""The warm path: what it must not forget. Every producer here has its route and its connections before it sends.

Every test runs in virtual time and on real sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from rocketmq_aio import (
    Message,
    NotDurableError,
    Producer,
    ProducerConfig,
    SendRejectedError,
    SendStatus,
    Window,
)
from rocketmq_aio.environment import Environment
from tests.sim.test_producer import SlowMessage
from tests.support.servers import Server, broker, name_server, reply
from tests.support.worlds import WORLDS, counting, run_in

pytestmark = pytest.mark.parametrize("world", WORLDS)


def warm(world: str, handler: Any, test: Callable[[Producer, Any], Awaitable[Any]], **options: Any) -> None:
    """Run `test(producer, server)` with a producer whose first send is behind it."""

    async def main(environment: Environment) -> None:
        async with Server(environment, handler) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"T": 1})) as ns:
                counted, _ = counting(environment)
                config = ProducerConfig(**options)
                async with Producer("g", namesrv=ns.addr, environment=counted, config=config) as producer:
                    await producer.send(Message("T", b"first"))
                    await test(producer, b)

    run_in(world, main)


def test_room_goes_to_the_next_in_line(world: str) -> None:
    """Warm sends through a window of one: each that ends lets the next one in, long before any deadline."""

    async def test(producer: Producer, _server: Any) -> None:
        results = await asyncio.gather(*[producer.send(Message("T", b"x")) for _ in range(20)])
        assert [result.queue_offset for result in results] == list(range(1, 21))
        assert all(result.elapsed < 5 for result in results)
        assert producer.stats().window_waits == 19

    warm(world, broker(), test, window=Window(messages_max=1), send_timeout=30.0)


def test_closing_hears_of_the_last_answer(world: str) -> None:
    """`aclose` ends with the last warm send, and does not wait for `drain` to pass."""

    async def test(producer: Producer, _server: Any) -> None:
        sends = [asyncio.ensure_future(producer.send(Message("T", b"x"))) for _ in range(5)]
        await asyncio.sleep(0)
        report = await producer.aclose(drain=60.0)
        assert report.elapsed < 30 and report.abandoned == 0
        assert all(result.ok for result in await asyncio.gather(*sends))

    warm(world, broker(), test)


@pytest.mark.parametrize("kind", [Message, SlowMessage])
@pytest.mark.parametrize("status", [SendStatus.FLUSH_DISK_TIMEOUT, SendStatus.SLAVE_NOT_AVAILABLE,
                                    SendStatus.FLUSH_SLAVE_TIMEOUT])
def test_stored_but_not_as_durably_as_asked(world: str, status: SendStatus, kind: type[Message]) -> None:
    """A success of another status is a result with that status, on both paths."""
    codes = [0, int(status)]

    def handle(connection: Any, request: Any) -> None:
        code = codes.pop(0) if request.code == 310 else 0
        reply(connection, request, code, fields={"queueId": "0", "queueOffset": "7"})

    async def test(producer: Producer, _server: Any) -> None:
        result = await producer.send(kind("T", b"x"))
        assert result.status is status and not result.ok and result.queue_offset == 7
        with pytest.raises(NotDurableError, match=status.name) as caught:
            result.raise_for_status()
        assert caught.value.result is result and caught.value.maybe_stored

    warm(world, handle, test)


@pytest.mark.parametrize("kind", [Message, SlowMessage])
def test_the_queue_is_the_brokers(world: str, kind: type[Message]) -> None:
    """The broker may store a message in another queue than it was asked to: the result names that one."""
    queues = ["0", "3"]

    def handle(connection: Any, request: Any) -> None:
        queue = queues.pop(0) if request.code == 310 else "0"
        reply(connection, request, fields={"queueId": queue, "queueOffset": "7"})

    async def test(producer: Producer, _server: Any) -> None:
        assert (await producer.send(kind("T", b"x"))).queue.queue_id == 3

    warm(world, handle, test)


@pytest.mark.parametrize("kind", [Message, SlowMessage])
def test_refusal_of_a_warm_send(world: str, kind: type[Message]) -> None:
    """A code that is no success is a SendRejectedError on both paths, and counted."""
    codes = [0, 13]

    def handle(connection: Any, request: Any) -> None:
        code = codes.pop(0) if request.code == 310 else 0
        reply(connection, request, code, fields={"queueId": "0", "queueOffset": "7"}, remark="no")

    async def test(producer: Producer, _server: Any) -> None:
        with pytest.raises(SendRejectedError, match="MESSAGE_ILLEGAL"):
            await producer.send(kind("T", b"x"))
        assert producer.stats().failed == {"SendRejectedError": 1} and producer.stats().sent == 1

    warm(world, handle, test)


def test_options_stay_warm(world: str) -> None:
    """A timeout of its own, a flag, tags and properties need no timer: nothing has to be waited for."""

    async def test(producer: Producer, server: Any) -> None:
        loop = asyncio.get_running_loop()
        timers = 0
        call_later, call_at = loop.call_later, loop.call_at

        def counting_later(*args: Any, **options: Any) -> Any:
            nonlocal timers
            timers += 1
            return call_later(*args, **options)

        def counting_at(*args: Any, **options: Any) -> Any:
            nonlocal timers
            timers += 1
            return call_at(*args, **options)

        scan = producer._pool.connections[server.addr]._scan
        scan.stop()
        scan.handle = loop.call_later(0, lambda: None)  # looks at deadlines are not the message's
        if world == "uvloop":
            pytest.skip("uvloop's methods cannot be replaced; tests/sim/test_call_counts.py counts there.")
        loop.call_later, loop.call_at = counting_later, counting_at  # type: ignore[method-assign]
        try:
            await producer.send(Message("T", b"x"), send_timeout=2.5)
            await producer.send(Message("T", b"x"), send_timeout=timedelta(seconds=2))
            await producer.send(Message("T", b"x", flag=7, tags="t", keys="k", properties={"a": "b"}))
            await producer.send(SlowMessage("T", b"x"))
            await producer.send_oneway(Message("T", b"x"))
        finally:
            del loop.call_later, loop.call_at
        assert timers <= (10 if world == "virtual" else 0)  # the virtual network has a timer for each arrival

    warm(world, broker(), test)
