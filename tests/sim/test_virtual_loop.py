"""Virtual time: the clock moves when nothing else can happen. There is no operating system."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from broker_sim.worlds.environments import VIRTUAL_START, VirtualClock
from broker_sim.worlds.runner import run_virtual
from broker_sim.worlds.virtual_loop import VirtualLoop
from rocketmq_aio.environment import Environment
from rocketmq_aio.errors import StateError
from tests.sim.programs import run


def test_a_sleep_moves_the_clock_by_its_length() -> None:
    """A day of sleeping is two moves of the clock, and the clock shows exactly the sum."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.sleep(86_400 - 0.25)
        await asyncio.sleep(0.25)
        return loop.time() - start

    assert run(main) == 86_400


def test_timers_run_exactly_at_their_time() -> None:
    """Also where a float has few digits left behind the point, no timer runs early, late or twice."""
    loop = VirtualLoop(start=2.0**30)
    seen: list[tuple[float, float]] = []
    try:
        for index in range(100):
            when = loop.time() + index * 2.0**-20
            loop.call_at(when, lambda when=when: seen.append((when, loop.time())))
        loop.call_later(1, loop.stop)
        loop.run_forever()
    finally:
        loop.close()
    assert len(seen) == 100
    assert all(when == now for when, now in seen)


def test_timers_of_one_time_run_in_the_order_in_which_they_were_set() -> None:
    """Ties are broken by the order of creation, not by the shape of a heap."""
    loop = VirtualLoop()
    seen: list[tuple[float, int]] = []
    times = [loop.time() + random.Random(1).choice([1.0, 2.0, 3.0]) * (n % 4) for n in range(200)]
    try:
        for number, when in enumerate(times):
            loop.call_at(when, lambda entry: seen.append(entry), (when, number))
        loop.call_later(100, loop.stop)
        loop.run_forever()
    finally:
        loop.close()
    assert len(seen) == len(times)
    assert seen == sorted(seen)


def test_callbacks_come_before_the_clock_moves() -> None:
    """However long a chain of callbacks is, no timer overtakes it."""

    async def main() -> list[str]:
        seen: list[str] = []
        loop = asyncio.get_running_loop()
        loop.call_later(1e-9, seen.append, "timer")
        for _ in range(1_000):
            await asyncio.sleep(0)
        seen.append("callbacks")
        await asyncio.sleep(1)
        return seen

    assert run(main) == ["callbacks", "timer"]


def test_cancelled_timers_do_not_move_the_clock() -> None:
    """Time does not stop where a cancelled timer would have run."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        for timer in [loop.call_later(5 + index, print) for index in range(300)]:
            timer.cancel()
        start = loop.time()
        await asyncio.sleep(1)
        return loop.time() - start

    assert run(main) == 1


def test_a_timer_in_the_past_runs_in_the_next_turn() -> None:
    """The clock never goes back."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        start = loop.time()
        loop.call_at(start - 100, done.set_result, None)
        await done
        return loop.time() - start

    assert run(main) == 0


def test_a_timer_needs_a_time() -> None:
    """NaN is refused; it would come before and after everything."""

    async def main() -> None:
        with pytest.raises(ValueError, match="NaN"):
            asyncio.get_running_loop().call_later(float("nan"), print)

    run(main)


def test_timeouts_of_asyncio_work() -> None:
    """`asyncio.timeout` and `asyncio.wait_for` expire in virtual time."""

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        start = loop.time()
        times = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await loop.create_future()
        times.append(loop.time() - start)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.create_future(), 4)
        times.append(loop.time() - start)
        async with asyncio.timeout(10):
            await asyncio.sleep(9)
        times.append(loop.time() - start)
        return times

    assert run(main) == [3, 7, 16]


def test_the_clocks_of_the_environment() -> None:
    """Both clocks move with the loop; a step moves the wall clock alone."""

    async def main(environment: Environment) -> None:
        clock = environment.clock
        assert isinstance(clock, VirtualClock)
        monotonic, wall = clock.monotonic, clock.wall
        assert wall() == VIRTUAL_START.timestamp() == datetime(2024, 1, 1, tzinfo=UTC).timestamp()
        before = monotonic()
        assert before > 0
        await asyncio.sleep(90)
        assert (monotonic() - before, wall() - VIRTUAL_START.timestamp()) == (90, 90)
        clock.step(-3600)
        assert (monotonic() - before, wall() - VIRTUAL_START.timestamp()) == (90, -3510)

    run_virtual(main)


def test_the_wall_clock_starts_where_it_is_told() -> None:
    """Another start is possible; one without a time zone is refused."""

    async def main(environment: Environment) -> float:
        return environment.clock.wall()

    start = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert run_virtual(main, start=start) == start.timestamp()
    with pytest.raises(ValueError, match="no time zone"):
        run_virtual(main, start=start.replace(tzinfo=None))


# What there is not.


SOCKETS = r"There are no sockets\. .*Producer\(\.\.\., environment=cluster\.environment\)"
THREADS = r"Nobody waits for other threads\. "
SYSTEM = r"There is no operating system\. .*in real time"


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda loop: loop.run_in_executor(None, print), f"run_in_executor: not in virtual time. {THREADS}"),
        (lambda loop: asyncio.to_thread(print), THREADS),
        (lambda loop: loop.getaddrinfo("localhost", 80), SOCKETS),
        (lambda loop: loop.create_connection(asyncio.Protocol, "localhost", 80), f"create_connection: .*{SOCKETS}"),
        (lambda loop: loop.create_server(asyncio.Protocol, "localhost", 80), SOCKETS),
        (lambda loop: asyncio.open_connection("localhost", 80), SOCKETS),
        (lambda loop: asyncio.create_subprocess_exec("true"), SYSTEM),
    ],
)
def test_the_operating_system_is_refused(
    use: Callable[[asyncio.AbstractEventLoop], Awaitable[Any]], words: str
) -> None:
    """Threads, name resolution, sockets and processes raise, with a text that says what to do instead."""

    async def main() -> None:
        with pytest.raises(StateError, match=words):
            await use(asyncio.get_running_loop())

    run(main)


def test_signals_and_descriptors_are_refused() -> None:
    """Handlers that the operating system would call raise at once."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="add_signal_handler: not in virtual time"):
            loop.add_signal_handler(2, print)
        with pytest.raises(RuntimeError, match="add_reader: not in virtual time"):
            loop.add_reader(0, print)

    run(main)


def test_callbacks_from_other_threads_are_refused() -> None:
    """`call_soon_threadsafe` works in the loop's own thread only."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        seen: list[str] = []

        def elsewhere() -> None:
            try:
                loop.call_soon_threadsafe(seen.append, "other thread")
            except RuntimeError as error:
                seen.append(str(error))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        loop.call_soon_threadsafe(seen.append, "own thread")
        await asyncio.sleep(0)
        return seen

    refusal, own = run(main)
    assert refusal.startswith("a callback from another thread: not in virtual time")
    assert own == "own thread"


def test_a_running_loop_is_in_the_way() -> None:
    """Inside a running loop the runner raises, before anything is called."""

    async def outer() -> None:
        with pytest.raises(RuntimeError, match="cannot run inside a running loop"):
            run_virtual(lambda _: pytest.fail("called"))

    run(outer)


def test_a_hang_needs_a_time() -> None:
    """`hang_after` must be more than 0."""
    with pytest.raises(ValueError, match="hang_after is 0"):
        VirtualLoop(hang_after=0)
