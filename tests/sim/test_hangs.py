"""A program in virtual time that hangs is told so, and where."""

from __future__ import annotations

import asyncio
import contextvars
import math
import pickle
import re
import reprlib
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest

from broker_sim.worlds.hang import DeadlockError
from broker_sim.worlds.virtual_loop import TURNS_MAX
from rocketmq_aio.environment import housekeeping, housekeeping_context
from tests.sim.programs import caller_of_stuck, hang, keep_house, line_of, run, stuck


def test_a_program_that_nothing_can_wake_hangs_at_once() -> None:
    """Without a callback and a timer, the error comes at the time of the last one, and names function and line."""

    async def main() -> None:
        await asyncio.sleep(5)
        await caller_of_stuck()

    error = hang(main, seed=11)
    text = str(error)
    assert (error.elapsed, error.seed) == (5, 11)
    assert "5.000 virtual seconds (seed=11): nothing is left that could happen" in text
    assert line_of(caller_of_stuck, "await stuck") in text
    assert line_of(stuck, "create_future") in text
    assert "waits for <Future pending" in text
    assert error.__notes__ == ["seed=11"]


def test_a_program_in_which_only_housekeeping_runs_hangs_after_a_while() -> None:
    """Heartbeats do not hide that the program is stuck; the error comes after 600 virtual seconds."""
    ticks: list[float] = []

    async def main() -> None:
        nonlocal ticks
        ticks = keep_house()
        await caller_of_stuck()

    error = hang(main)
    assert error.elapsed == 600
    assert len(ticks) == 20
    assert "only housekeeping has run" in str(error)
    assert line_of(stuck, "create_future") in str(error)
    assert str(error).index("in stuck") < str(error).index("Task-2 (housekeeping)") < str(error).index("in tick")


def test_housekeeping_that_arms_timers_itself_is_no_progress() -> None:
    """A callback that re-arms itself in a housekeeping context ticks in vain."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = housekeeping_context()

        def scan() -> None:
            assert housekeeping.get()
            loop.call_later(0.5, scan)

        loop.call_later(0.5, scan, context=context)
        await stuck()

    assert hang(main, hang_after=10.0).elapsed == 10


@pytest.mark.parametrize("seconds", [121.0, 599.0, 100_000.0])
def test_waiting_for_an_expiry_is_no_hang(seconds: float) -> None:
    """A program that waits for a timer of its own makes progress, however long it takes."""

    async def main() -> int:
        ticks = keep_house()
        await asyncio.sleep(seconds)
        return len(ticks)

    assert run(main) == int(seconds // 30)


def test_what_housekeeping_brings_about_is_progress() -> None:
    """A program that waits for a periodic scan, again and again, does not hang while the scan brings something."""

    async def main() -> int:
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def scan() -> None:
            for number in range(20):
                await asyncio.sleep(400)
                queue.put_nowait(number)

        task = asyncio.get_running_loop().create_task(scan(), context=housekeeping_context())
        last = [await queue.get() for _ in range(20)][-1]
        await task
        return last

    assert run(main) == 19


def test_arming_a_timer_is_progress() -> None:
    """Also when it is cancelled soon: somebody acts."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        foreground = contextvars.copy_context()
        done = loop.create_future()

        async def act() -> None:
            for _ in range(20):
                await asyncio.sleep(400)
                loop.call_later(100, print, context=foreground).cancel()
            done.set_result(None)

        task = loop.create_task(act(), context=housekeeping_context())
        await done
        await task

    run(main)


def test_a_cancelled_timer_is_no_hope() -> None:
    """When the program's own timer is cancelled, nothing is left to wait for."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        keep_house()
        timer = loop.call_later(100_000, print)
        loop.call_later(1_000, timer.cancel, context=housekeeping_context())
        loop.call_later(
            50_000, print, context=housekeeping_context()
        )  # asyncio drops a cancelled timer when it is next
        await stuck()

    assert 1_000 <= hang(main).elapsed <= 2_000


def test_a_timer_at_infinity_is_no_hope() -> None:
    """What never comes does not move the clock."""

    async def main() -> None:
        asyncio.get_running_loop().call_at(float("inf"), print)
        await stuck()

    error = hang(main)
    assert error.elapsed == 0
    assert "nothing is left" in str(error)


def test_a_timer_at_infinity_is_no_hope_beside_housekeeping() -> None:
    """Who sleeps for ever hangs, whatever repeats beside it."""

    async def main() -> None:
        keep_house()
        await asyncio.sleep(math.inf)

    error = hang(main)
    assert error.elapsed == 600
    assert "only housekeeping has run" in str(error)
    assert line_of(main, "math.inf") in str(error)


async def spin() -> None:
    while True:
        await asyncio.sleep(0)


def test_a_program_that_turns_without_end_is_stopped() -> None:
    """100,000 turns without time moving are an error that names what keeps turning."""

    async def main() -> None:
        keep_house()
        await asyncio.sleep(1)
        await spin()

    error = hang(main)
    assert error.elapsed == 1
    assert f"{TURNS_MAX:,} turns, and time stands still" in str(error)
    assert "1000 × task Task-1" in str(error)
    assert "in spin" in str(error)


def test_timers_that_do_not_move_the_clock_are_turns_too() -> None:
    """A callback that arms itself again for now is found."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_at(loop.time(), again)

        again()
        await stuck()

    assert "again" in str(hang(main)).split("Task-1")[0]


class Awaited:
    """Waits through a coroutine that is hidden behind `__await__`."""

    def __await__(self) -> Generator[Any, None, None]:
        return stuck().__await__()


async def generate() -> AsyncIterator[int]:
    yield 1
    await Awaited()


async def iterate() -> None:
    async for _ in generate():
        pass


def test_a_stack_goes_through_generators_and_awaitables() -> None:
    """The innermost call is found behind `async for` and `__await__`."""
    text = str(hang(iterate))
    places = [line_of(iterate, "async for"), line_of(generate, "Awaited"), line_of(stuck, "create_future")]
    assert [text.index(place) for place in places] == sorted(text.index(place) for place in places)


def test_tasks_with_one_stack_share_a_paragraph() -> None:
    """A thousand tasks at one place are one stack, with some names and a count; what a task waits for is named."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(stuck(), name=f"sender-{number}") for number in range(1_000)]
        await tasks[7]

    text = str(hang(main))
    assert text.count("in stuck") == 1
    assert "sender-0, sender-1" in text
    assert "and 992 more" in text
    assert "waits for task sender-7" in text


class Awkward(asyncio.Future[None]):
    """Its text has a memory address, and what `reprlib` leaves of one."""

    def __repr__(self) -> str:
        return f"{object.__repr__(self)} {reprlib.repr(object())}"


def test_two_runs_tell_the_same() -> None:
    """The text has no memory addresses and no numbers that go on from run to run."""

    async def main() -> None:
        keep_house()
        iterating = asyncio.create_task(iterate())
        await Awkward()
        await iterating

    text = str(hang(main))
    assert text == str(hang(main))
    assert "waits for <tests.sim.test_hangs.Awkward object> <object obj" in text
    assert not re.search(r"0x|[0-9a-f]{8}", text)


def test_the_error_can_be_pickled() -> None:
    """Test runners send errors between processes."""
    error = DeadlockError("text", elapsed=2.5, seed=7)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.elapsed, copy.seed) == (DeadlockError, "text", 2.5, 7)
