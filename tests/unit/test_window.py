"""The window: room for messages and bytes, a line outside that nobody overtakes, and no room lost by cancelling."""

from __future__ import annotations

import asyncio
import gc
import traceback

import pytest

from rocketmq_aio.errors import ClosedError
from rocketmq_aio.window import SendWindow
from tests.unit.net.fakes import turns, virtual_time


def send(window: SendWindow, size: int = 1) -> asyncio.Task[None]:
    """Somebody who wants room."""
    return asyncio.ensure_future(window.enter(size))


def counts(window: SendWindow) -> tuple[int, int, int]:
    """Messages, bytes, and how many wait."""
    return window.messages, window.bytes, window.waiting


def warm_path_may_enter(window: SendWindow, size: int) -> bool:
    """What a warm send compares before it counts by hand."""
    return window.messages < window.limit and window.bytes + size <= window.bytes_max


def is_at_rest(window: SendWindow) -> bool:
    """Nothing in flight, nobody in line, and the warm path need not call anything."""
    return counts(window) == (0, 0, 0) and not window.watched and window.limit == window.messages_max


@virtual_time
async def test_who_finds_room_does_not_wait() -> None:
    """Up to both limits, without a turn of the loop."""
    window = SendWindow(3, 100)
    for size in (40, 59, 1):
        window.enter(size).close()  # a coroutine that was never started has taken nothing
        with pytest.raises(StopIteration):
            window.enter(size).send(None)
    assert counts(window) == (3, 100, 0) and window.waits == 0 and not window.watched
    for size in (40, 59, 1):
        window.leave(size)
    assert is_at_rest(window)


@virtual_time
@pytest.mark.parametrize(("messages_max", "bytes_max"), [(2, 1000), (1000, 2)], ids=["messages", "bytes"])
async def test_room_is_given_in_line(messages_max: int, bytes_max: int) -> None:
    """Each who leaves lets in the first who waits, and nobody else."""
    window = SendWindow(messages_max, bytes_max)
    order: list[int] = []

    async def sender(number: int) -> None:
        await window.enter(1)
        order.append(number)

    tasks = [asyncio.ensure_future(sender(number)) for number in range(6)]
    await turns(3)
    assert order == [0, 1] and counts(window) == (2, 2, 4) and window.waits == 4
    for expected in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]):
        window.leave(1)
        assert counts(window)[:2] == (2, 2)  # taken at once, before the next one runs
        await turns(2)
        assert order == expected
    await asyncio.wait(tasks)
    window.leave(1)
    window.leave(1)
    assert is_at_rest(window)


@virtual_time
async def test_nobody_is_overtaken() -> None:
    """While a large message waits for its bytes, the door is shut for small ones, cold and warm, that would fit."""
    window = SendWindow(10, 100)
    await window.enter(60)
    large = send(window, 50)
    await turns(1)
    small = send(window, 1)
    await turns(2)
    assert counts(window) == (1, 60, 2)
    assert not warm_path_may_enter(window, 1)
    window.leave(60)
    await turns(2)
    assert large.done() and small.done() and counts(window) == (2, 51, 0)
    assert warm_path_may_enter(window, 49) and not warm_path_may_enter(window, 50)


@virtual_time
async def test_room_for_several_lets_in_several() -> None:
    """One large message leaves, and all the small ones that fit come in, in order, up to the first that does not."""
    window = SendWindow(10, 100)
    await window.enter(100)
    sizes = [30, 30, 30, 30, 1]
    tasks = [send(window, size) for size in sizes]
    await turns(2)
    window.leave(100)
    await turns(2)
    assert [task.done() for task in tasks] == [True, True, True, False, False]
    window.leave(30)
    await turns(2)
    assert all(task.done() for task in tasks) and counts(window) == (4, 91, 0)


@virtual_time
async def test_the_warm_path_gives_back_by_hand() -> None:
    """It counts down itself and calls `admit` only because somebody watches."""
    window = SendWindow(1, 100)
    window.messages += 1
    window.bytes += 7
    assert not window.watched
    waiter = send(window)
    await turns(1)
    assert window.watched
    window.messages -= 1
    window.bytes -= 7
    window.admit()
    await waiter
    assert counts(window) == (1, 1, 0) and not window.watched


# --- cancelling


@virtual_time
async def test_cancelled_in_line_it_has_taken_nothing() -> None:
    """At the head, in the middle and at the end; the order of the others stays."""
    window = SendWindow(1, 100)
    await window.enter(1)
    order: list[int] = []

    async def sender(number: int) -> None:
        await window.enter(1)
        order.append(number)

    tasks = [asyncio.ensure_future(sender(number)) for number in range(5)]
    await turns(1)
    for number in (0, 2, 4):
        tasks[number].cancel()
    await turns(2)
    assert counts(window) == (1, 1, 2)
    window.leave(1)
    await turns(2)
    window.leave(1)
    await turns(2)
    assert order == [1, 3]
    window.leave(1)
    assert is_at_rest(window)


@virtual_time
async def test_a_head_that_leaves_opens_the_door_for_those_behind() -> None:
    """They did not fit behind it, and they fit without it: no room has to be given back for that."""
    window = SendWindow(10, 100)
    await window.enter(60)
    large, small, other = send(window, 50), send(window, 30), send(window, 10)
    await turns(1)
    large.cancel()
    await turns(3)
    assert small.done() and other.done() and counts(window) == (3, 100, 0)
    assert window.limit == window.messages_max and not window.watched


@virtual_time
async def test_cancelled_in_the_turn_of_its_admission_it_gives_the_room_back() -> None:
    """The next one gets it, in the same turn."""
    window = SendWindow(1, 100)
    await window.enter(1)
    first, second = send(window, 5), send(window, 6)
    await turns(1)
    window.leave(1)
    assert counts(window) == (1, 5, 1)
    first.cancel()
    await turns(2)
    assert first.cancelled() and second.done() and counts(window) == (1, 6, 0)
    window.leave(6)
    assert is_at_rest(window)


@virtual_time
async def test_room_that_comes_in_the_turn_of_a_cancellation_is_not_lost() -> None:
    """The head is cancelled first and room is given back before it has taken itself out."""
    window = SendWindow(1, 100)
    await window.enter(1)
    first, second = send(window), send(window)
    await turns(1)
    first.cancel()
    window.leave(1)
    await turns(3)
    assert first.cancelled() and second.done() and counts(window) == (1, 1, 0)


@virtual_time
async def test_a_deadline_around_the_wait_is_a_timeout() -> None:
    """Waiting is within the sender's own deadline, and leaves nothing behind."""
    window = SendWindow(1, 100)
    await window.enter(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await window.enter(1)
    window.leave(1)
    assert is_at_rest(window) and window.waits == 1


# --- closing


@virtual_time
async def test_close_turns_away_all_who_wait() -> None:
    """Each with an error of its own; what is in flight stays counted, and the last of it leaves the window at rest."""
    window = SendWindow(1, 100)
    await window.enter(1)
    tasks = [send(window) for _ in range(3)]
    await turns(1)
    reason = ClosedError("the producer was closed while the message waited for room.")
    window.close(reason)
    window.close(reason)
    await asyncio.wait(tasks)
    errors = [task.exception() for task in tasks]
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert type(error) is ClosedError and str(error) == str(reason) and error.__cause__ is reason
        assert len(traceback.extract_tb(error.__traceback__)) == 1
    assert counts(window) == (1, 1, 0)
    window.leave(1)
    assert is_at_rest(window)


@virtual_time
async def test_turned_away_and_cancelled_in_one_turn() -> None:
    """Room that was never given is not given back, whichever of the two comes first."""
    for close_first in (True, False):
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context, to=complaints: to.append(context))
        window = SendWindow(1, 100)
        await window.enter(1)
        task = send(window, 5)
        await turns(1)
        if close_first:
            window.close(ClosedError("closed"))
        task.cancel()
        if not close_first:
            window.close(ClosedError("closed"))
        await asyncio.wait([task])
        assert task.cancelled()
        del task
        gc.collect()
        assert counts(window) == (1, 1, 0) and complaints == []
        window.leave(1)
        assert is_at_rest(window)


def test_close_with_the_loop_closed() -> None:
    """At exit nobody can be told any more, and that is no error."""
    window = SendWindow(1, 100)
    loop = asyncio.new_event_loop()

    async def fill() -> list[asyncio.Task[None]]:
        await window.enter(1)
        tasks = [send(window) for _ in range(2)]
        await turns(1)
        return tasks

    tasks = loop.run_until_complete(fill())
    loop.close()
    window.close(ClosedError("closed"))
    assert counts(window) == (1, 1, 0)
    for task in tasks:
        task._log_destroy_pending = False


# --- idle


@virtual_time
async def test_idle_at_once_when_nothing_is_in_flight() -> None:
    """No turn of the loop is needed."""
    window = SendWindow(1, 100)
    with pytest.raises(StopIteration):
        window.idle().send(None)
    assert is_at_rest(window)


@virtual_time
async def test_idle_waits_for_what_is_in_flight_and_for_the_line() -> None:
    """Who stands in line before the end is let in, and waited for too."""
    window = SendWindow(2, 100)
    await window.enter(1)
    await window.enter(1)
    inside = send(window)
    await turns(1)
    idle = asyncio.ensure_future(window.idle())
    await turns(1)
    for _ in range(3):
        assert not idle.done()
        window.leave(1)
        await turns(2)
    assert inside.done() and idle.done() and is_at_rest(window)


@virtual_time
async def test_idle_after_the_last_in_line_gave_up() -> None:
    """Nothing is in flight any more, but one who was cancelled has not taken himself out yet."""
    window = SendWindow(1, 100)
    await window.enter(1)
    waiter = send(window)
    await turns(1)
    waiter.cancel()
    window.leave(1)
    idle = asyncio.ensure_future(window.idle())
    await turns(3)
    assert idle.done() and is_at_rest(window)


@virtual_time
async def test_idle_is_safe_to_cancel() -> None:
    """It can be waited for again, and a line that stands stays watched."""
    window = SendWindow(1, 100)
    await window.enter(1)
    waiter = send(window)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await window.idle()
        assert window.watched
    window.leave(1)
    await waiter
    assert not window.watched
    idle = asyncio.ensure_future(window.idle())
    await turns(1)
    assert window.watched
    window.leave(1)
    window.admit()
    await idle
    assert is_at_rest(window)
