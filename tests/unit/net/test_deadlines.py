"""Deadlines: never early, late by a look at most, without a timer for a request, and truthful after a stalled loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from rocketmq_aio.environment import housekeeping
from rocketmq_aio.errors import RequestTimeoutError, RocketMQError
from rocketmq_aio.net.deadlines import SLICE, TURNS_MAX, DeadlineScan, Tick
from rocketmq_aio.wire.incoming import Reply
from tests.unit.net.fakes import ADDRESS, ONEWAY_TEMPLATE, SCAN, RecordingSink, World, reply_frame, turns, virtual_time

EPSILON = 1e-9


@virtual_time
async def test_an_entry_ends_at_its_deadline_and_late_by_a_look_at_most() -> None:
    """Whatever its deadline is, and whenever it was sent."""
    world = World()
    sinks: list[tuple[float, RecordingSink]] = []
    for number in range(200):
        sink = RecordingSink(world)
        due_in = (number * 37 % 101) * 0.013
        sinks.append((world.now() + due_in, sink))
        world.submit(sink, due_in=due_in)
        await asyncio.sleep(0.0071)
    await asyncio.sleep(2)
    for due, sink in sinks:
        assert len(sink.times) == len(sink.errors) == 1
        assert due <= sink.times[0] <= due + SCAN + EPSILON
    assert world.connection.pending_count == 0 and world.connection.loop_stalls == 0


@virtual_time
async def test_what_a_timeout_says() -> None:
    """It names the peer, is worth a retry, and does not claim that nothing is stored."""
    world = World()
    future = world.request(due_in=1)
    with pytest.raises(RequestTimeoutError) as caught:
        await future
    assert str(caught.value) == "broker-a at 10.0.0.1:10911 did not answer within 1 s."
    assert caught.value.address == ADDRESS and caught.value.retryable and caught.value.maybe_stored
    assert not world.connection.closed


@virtual_time
async def test_an_answer_before_the_look_wins() -> None:
    """A deadline that has passed ends nothing by itself; only the look does."""
    world = World()
    future = world.request(due_in=0.051)
    await asyncio.sleep(0.09)
    world.answer(1)
    assert future.result().opaque == 1


@virtual_time
async def test_a_request_that_ends_before_its_flush_is_still_written() -> None:
    """So its error must say that it may be stored: the bytes go out at the end of the same turn."""
    world = World()
    world.request(due_in=10)
    await turns(1)
    failed: list[RocketMQError] = []

    def ask_in_the_turn_of_the_look() -> None:
        sink = RecordingSink()
        sink.errors = failed
        world.submit(sink, due_in=0, body=b"late")
        world.connection._scan._look()

    world.loop.call_later(0.02, ask_in_the_turn_of_the_look)
    await asyncio.sleep(0.03)
    assert len(failed) == 1
    assert failed[0].maybe_stored == (world.sent()[-1].body == b"late")


@virtual_time
async def test_there_is_one_timer_while_something_is_pending_and_none_otherwise() -> None:
    """Not one for each request; and a connection that nobody waits on leaves the loop in peace."""
    world = World()
    assert world.timers() == 0
    for _ in range(3):
        for _ in range(100):
            world.request()
        assert world.timers() == 1
        await asyncio.sleep(1)
        assert world.timers() == 1
        world.answer(*[command.opaque for command in world.sent()[-100:]])
        await asyncio.sleep(SCAN)
        assert world.timers() == 0
    world.connection.write(reply_frame(1))
    world.connection.post(ONEWAY_TEMPLATE, (), b"")
    await asyncio.sleep(SCAN)
    assert world.timers() == 0


@virtual_time
async def test_a_cancelled_request_stays_until_its_deadline() -> None:
    """An abandoned entry still counts as no answer; at its deadline it goes without a word."""
    world = World()
    future = world.request(due_in=3)
    await turns(1)
    future.cancel()
    await asyncio.sleep(2.9)
    assert world.connection.pending_count == 1
    await asyncio.sleep(0.2)
    assert world.connection.pending_count == 0 and world.timers() == 0
    assert world.connection.late_answers == 0
    world.answer(1)
    assert world.connection.late_answers == 1


@virtual_time
async def test_a_look_runs_as_housekeeping() -> None:
    """A virtual loop must not take the ticking of deadlines for progress of the program."""
    world = World()
    seen: list[bool] = []

    class Sink(RecordingSink):
        def fail(self, error: RocketMQError) -> None:
            seen.append(housekeeping.get())

    world.submit(Sink(), due_in=0.2)
    await asyncio.sleep(0.3)
    assert seen == [True] and not housekeeping.get()


@virtual_time
async def test_a_sink_may_ask_again_when_it_fails() -> None:
    """The second attempt has a deadline of its own, which is kept."""
    world = World()

    class Retrying(RecordingSink):
        def fail(self, error: RocketMQError) -> None:
            super().fail(error)
            if len(self.errors) < 3:
                world.submit(self, due_in=1.0)

    sink = Retrying(world)
    started = world.now()
    world.submit(sink, due_in=1.0)
    await asyncio.sleep(10)
    assert len(sink.errors) == 3
    assert [time - started for time in sink.times] == [
        pytest.approx(number, abs=number * SCAN + EPSILON) for number in (1, 2, 3)
    ]
    assert world.timers() == 0


@virtual_time
async def test_a_sink_may_close_the_connection_when_it_fails() -> None:
    """The look stops there; everything else fails with the connection, once."""
    world = World()

    class Closing(RecordingSink):
        def fail(self, error: RocketMQError) -> None:
            super().fail(error)
            world.connection.abort()

    closing, others = Closing(), [RecordingSink(), RecordingSink()]
    world.submit(closing, due_in=0)
    for other in others:
        world.submit(other, due_in=0)
    await asyncio.sleep(1)
    assert [type(error).__name__ for error in closing.errors] == ["RequestTimeoutError"]
    assert [[type(error).__name__ for error in other.errors] for other in others] == [["ConnectionLostError"]] * 2
    assert world.timers() == 0


@virtual_time
async def test_a_sink_that_raises_harms_no_other() -> None:
    """It is a bug, which the loop reports; the deadlines of all others are kept."""
    world = World()
    complaints: list[Any] = []
    world.loop.set_exception_handler(lambda _loop, context: complaints.append(context["exception"]))

    class Broken(RecordingSink):
        def fail(self, error: RocketMQError) -> None:
            raise ZeroDivisionError

    others = [RecordingSink(world) for _ in range(2)]
    world.submit(others[0], due_in=0.04)
    world.submit(Broken(), due_in=0.04)
    world.submit(others[1], due_in=0.04)
    started = world.now()
    await asyncio.sleep(1)
    assert [type(complaint) for complaint in complaints] == [ZeroDivisionError]
    assert all(other.times[0] - started <= 3 * SCAN for other in others)
    assert world.connection.pending_count == 0


# --- slices


@virtual_time
async def test_a_full_table_is_looked_at_in_slices() -> None:
    """8,192 entries a callback, each callback in a turn of its own; nothing is skipped and nothing ends twice."""
    loop = asyncio.get_running_loop()
    total = 2 * SLICE + 100
    turn, ended, turn_of = 0, Counter[int](), Counter[int]()

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        if len(ended) < total:
            loop.call_soon(count_turns)

    def expire(entry: tuple[Any, float, Tick]) -> None:
        ended[entry[0]] += 1
        turn_of[turn] += 1

    pending: dict[int, Any] = {number: (number, 0.0, Tick()) for number in range(total)}
    scan = DeadlineScan(pending, loop.time, lambda: 0, expire)
    scan.arm(loop)
    loop.call_later(SCAN, count_turns)
    await asyncio.sleep(2 * SCAN)
    assert sorted(turn_of.values(), reverse=True) == [SLICE, SLICE, 100]
    assert pending == {} and len(ended) == total and max(ended.values()) == 1


@virtual_time
async def test_between_slices_the_table_may_change() -> None:
    """What is answered meanwhile does not end, what is new waits for the next look, and a stop is a stop."""
    loop = asyncio.get_running_loop()
    ended: list[int] = []

    def expire(entry: tuple[Any, float, Tick]) -> None:
        ended.append(entry[0])
        if len(ended) == SLICE:
            del pending[SLICE]
            pending[SLICE + 2] = (SLICE + 2, 0.0, Tick())
        if len(ended) == SLICE + 2:
            pending.update({number: (number, 0.0, Tick()) for number in range(SLICE + 10)})
        if len(ended) == 2 * SLICE + 2:
            scan.stop()

    pending: dict[int, Any] = {number: (number, 0.0, Tick()) for number in range(SLICE + 2)}
    scan = DeadlineScan(pending, loop.time, lambda: 0, expire)
    scan.arm(loop)
    await asyncio.sleep(1.5 * SCAN)
    assert ended[SLICE:] == [SLICE + 1] and list(pending) == [SLICE + 2]
    await asyncio.sleep(10)
    assert len(ended) == 2 * SLICE + 2 and len(pending) == 10


# --- stalls


def read_in_the_turns_after_the_look(world: World, chunks: list[bytes]) -> None:
    """The loop turns as asyncio's does after a stall: the look first, then one read of the socket in each turn."""

    def read() -> None:
        world.connection.data_received(chunks.pop(0))
        if chunks:
            world.loop.call_soon(world.loop.call_soon, read)

    world.loop.call_later(SCAN, world.loop.call_soon, read)


@virtual_time
async def test_an_answer_in_the_socket_wins_over_a_deadline_that_passed_in_a_stall() -> None:
    """Who blocked the loop hears the truth: the broker had answered in time. The stall is counted once."""
    world = World()
    futures = [world.request(due_in=3) for _ in range(4)]
    read_in_the_turns_after_the_look(world, [reply_frame(3), reply_frame(1), reply_frame(4)])
    await turns(1)
    world.jumped += 10.0
    await asyncio.sleep(SCAN)
    await turns(12)
    assert [type(future.exception()) for future in (futures[0], futures[2], futures[3])] == [type(None)] * 3
    assert isinstance(futures[1].exception(), RequestTimeoutError)
    assert world.connection.loop_stalls == 1


@virtual_time
async def test_after_a_silent_stall_deadlines_end_within_turns() -> None:
    """Nothing was in the socket: no further look is waited for."""
    world = World()
    future, other = world.request(due_in=3), world.request(due_in=30)
    await turns(1)
    world.jumped += 10.0
    await asyncio.sleep(SCAN)
    await turns(4)
    assert isinstance(future.exception(), RequestTimeoutError)
    assert not other.done() and world.connection.loop_stalls == 1
    await asyncio.sleep(21)
    assert isinstance(other.exception(), RequestTimeoutError)
    assert world.connection.loop_stalls == 1


@virtual_time
async def test_each_stall_is_counted() -> None:
    """Late by more than 50 ms is a stall, late by less is not."""
    world = World()
    world.request(due_in=100)
    for jump, stalls in ((0.04, 0), (0.06, 1), (0.049, 1), (1.0, 2)):
        world.jumped += jump
        await asyncio.sleep(SCAN + 0.001)
        await turns(4)
        assert world.connection.loop_stalls == stalls


@virtual_time
async def test_a_peer_that_never_stops_talking_does_not_put_deadlines_off() -> None:
    """Reading has the first word after a stall, but not for ever."""
    world = World()
    future: asyncio.Future[Reply] = world.request(due_in=3)
    talked = 0

    def talk() -> None:
        nonlocal talked
        talked += 1
        world.connection.data_received(reply_frame(999))
        if not future.done():
            world.loop.call_soon(talk)

    await turns(1)
    world.jumped += 10.0
    world.loop.call_later(SCAN, talk)
    await asyncio.sleep(SCAN)
    await turns(3 * TURNS_MAX)
    assert isinstance(future.exception(), RequestTimeoutError)
    assert talked <= 2 * TURNS_MAX + 2
    assert world.connection.late_answers == talked


@virtual_time
async def test_own_writes_do_not_put_deadlines_off() -> None:
    """Only what is read can hold an answer; a busy sender must still see its timeouts."""
    world = World()
    future = world.request(due_in=3)
    turned = 0

    def send() -> None:
        nonlocal turned
        turned += 1
        world.connection.write(reply_frame(1))
        world.jumped += 1e-6
        if not future.done():
            world.loop.call_soon(send)

    await turns(1)
    world.jumped += 10.0
    world.loop.call_later(SCAN, send)
    await asyncio.sleep(SCAN)
    await turns(3 * TURNS_MAX)
    assert isinstance(future.exception(), RequestTimeoutError)
    assert turned <= 4


@virtual_time
async def test_loss_during_the_second_look_ends_it() -> None:
    """Nothing is left to look at, and nothing ends twice."""
    world = World()
    sink = RecordingSink()
    world.submit(sink)
    world.loop.call_later(SCAN, world.loop.call_soon, world.connection.abort)
    await turns(1)
    world.jumped += 10.0
    await asyncio.sleep(1)
    assert [type(error).__name__ for error in sink.errors] == ["ConnectionLostError"]
    assert world.timers() == 0
