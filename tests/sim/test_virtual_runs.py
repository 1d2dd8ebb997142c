"""How a run in virtual time ends, and that a seed repeats it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker_sim.worlds.hang import DeadlockError
from broker_sim.worlds.runner import run_virtual
from rocketmq_aio.environment import Environment
from tests.sim.programs import hang, noisy_program, run, stuck

ROOT = Path(__file__).parents[2]

kept: list[asyncio.Task[None]] = []
"""Tasks that their makers leave alone. A loop holds its tasks weakly."""


@pytest.fixture(autouse=True)
def _forget_kept() -> Iterator[None]:
    yield
    kept.clear()


# The end.


@pytest.mark.parametrize("ending", ["return", "error", "hang"])
def test_tasks_that_are_left_are_cancelled_in_the_order_of_their_creation(ending: str) -> None:
    """However the program ends, and whatever the tasks are called."""
    seen: list[int] = []

    async def wait(number: int) -> None:
        try:
            await stuck()
        finally:
            seen.append(number)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        kept.extend(loop.create_task(wait(number), name=f"{-number}") for number in range(50))
        await asyncio.sleep(1)
        if ending == "error":
            raise LookupError("mine")
        if ending == "hang":
            await stuck()

    with {
        "return": contextlib.nullcontext(),
        "error": pytest.raises(LookupError, match="mine"),
        "hang": pytest.raises(DeadlockError),
    }[ending]:
        run(main)
    assert seen == list(range(50))


def test_a_cancelled_task_may_take_its_time_and_start_others() -> None:
    """Cleaning up sleeps in virtual time, and what it starts is cancelled in its turn."""
    seen: list[str] = []

    async def late() -> None:
        try:
            await stuck()
        finally:
            seen.append("late")

    async def clean_up() -> None:
        try:
            await stuck()
        finally:
            await asyncio.sleep(3_600)
            kept.append(asyncio.create_task(late()))
            await asyncio.sleep(1)
            seen.append("cleaned up")

    async def main() -> None:
        kept.append(asyncio.create_task(clean_up()))
        await asyncio.sleep(1)

    run(main)
    assert seen == ["cleaned up", "late"]


def test_a_task_that_was_made_without_the_loop_is_cancelled_too() -> None:
    """`asyncio.Task(…)` by hand comes after the others."""
    seen: list[str] = []

    async def wait(name: str) -> None:
        try:
            await stuck()
        finally:
            seen.append(name)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        kept.extend(asyncio.Task(wait(f"by hand {number}"), loop=loop) for number in range(3))
        kept.append(asyncio.create_task(wait("by the loop")))
        await asyncio.sleep(1)

    run(main)
    assert seen == ["by the loop", "by hand 0", "by hand 1", "by hand 2"]


async def stubborn() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(5)


def test_a_task_that_cannot_be_cancelled_is_an_error() -> None:
    """After 1,000 turns the run ends with an error that shows the task."""

    async def main() -> None:
        kept.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(1)

    error = hang(main)
    assert "do not end although they were cancelled" in str(error)
    assert "in stubborn" in str(error)
    assert error.elapsed <= 1 + 5 * 1_000


def test_a_task_that_cannot_be_cancelled_does_not_hide_an_error() -> None:
    """The program's own error is raised, with a note about the task."""

    async def main() -> None:
        kept.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(1)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine") as caught:
        run(main, seed=5)
    stack, seed = caught.value.__notes__
    assert "in stubborn" in stack
    assert seed == "seed=5"


def test_a_task_that_fails_while_it_is_cancelled_is_reported() -> None:
    """Its error goes to the loop's exception handler, as with `asyncio.run`."""
    reported: list[BaseException] = []

    async def fail() -> None:
        try:
            await stuck()
        finally:
            raise LookupError("mine")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        kept.append(loop.create_task(fail()))
        await asyncio.sleep(1)

    run(main)
    assert [str(error) for error in reported] == ["mine"]


def test_async_generators_are_closed_in_the_order_of_their_first_step() -> None:
    """What is left in the middle of a generator runs its `finally` at the end, in a known order."""
    seen: list[int] = []

    async def count(number: int) -> AsyncIterator[int]:
        try:
            yield number
        finally:
            await asyncio.sleep(0)
            seen.append(number)

    generators = [count(number) for number in range(50)]

    async def main() -> None:
        for generator in generators:
            await anext(generator)

    run(main)
    assert seen == list(range(50))


def test_an_interrupt_passes_through() -> None:
    """Ctrl-C ends the run, leaves no task behind, and gets no note."""
    seen: list[str] = []

    async def wait() -> None:
        try:
            await stuck()
        finally:
            seen.append("cancelled")

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        kept.append(asyncio.create_task(wait()))
        asyncio.get_running_loop().call_later(1, interrupt)
        await stuck()

    with pytest.raises(KeyboardInterrupt) as caught:
        run(main)
    assert not hasattr(caught.value, "__notes__")
    assert seen == ["cancelled"]


def test_the_result_and_the_error_come_out() -> None:
    """The runner returns what the program returns; an error carries the seed as a note."""

    async def succeed(environment: Environment) -> int:
        return len(environment.identity().address)

    async def fail(environment: Environment) -> int:
        raise LookupError("mine")

    assert run_virtual(succeed) == 4
    with pytest.raises(LookupError) as caught:
        run_virtual(fail, seed=77)
    assert caught.value.__notes__ == ["seed=77"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_keep_their_place() -> None:
    """The order of creation is that of `create_task`, although an eager child starts while its parent is made."""
    seen: list[str] = []

    async def wait(name: str) -> None:
        child = asyncio.create_task(wait(name + ".child")) if "." not in name else None
        try:
            await stuck()
        finally:
            seen.append(name)
            del child

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        kept.extend([asyncio.create_task(wait(name)) for name in "abc"])
        await asyncio.sleep(1)

    run(main)
    assert seen == ["a", "a.child", "b", "b.child", "c", "c.child"]


# Determinism.


def digest_elsewhere(seed: int, hash_seed: str) -> str:
    """The digest of the program in another process."""
    code = (
        "from broker_sim.worlds.runner import run_virtual\n"
        "from tests.sim.programs import noisy_program\n"
        f"print(run_virtual(noisy_program, seed={seed}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_a_seed_repeats_a_run() -> None:
    """The same seed gives the same history twice in one process, in another, and under other hash seeds."""
    first = run_virtual(noisy_program, seed=3)
    assert run_virtual(noisy_program, seed=3) == first
    assert digest_elsewhere(3, "1") == first
    assert digest_elsewhere(3, "4242") == first


def test_another_seed_is_another_run() -> None:
    """The history depends on the seed at all."""
    assert len({run_virtual(noisy_program, seed=seed) for seed in range(5)}) == 5


def test_random_generators_have_names() -> None:
    """A name's first generator depends on seed and name alone; asked for again, the name gives another."""

    async def main(environment: Environment) -> list[float]:
        return [environment.entropy(name).random() for name in ("a", "b", "a")]

    async def only_b(environment: Environment) -> float:
        return environment.entropy("b").random()

    first = run_virtual(main, seed=1)
    assert run_virtual(main, seed=1) == first
    assert len(set(first)) == 3
    assert run_virtual(only_b, seed=1) == first[1]
    assert run_virtual(only_b, seed=2) != first[1]


def test_a_virtual_process_has_an_identity_of_its_own() -> None:
    """The same in each run of a seed, and not that of this process."""

    async def main(environment: Environment) -> tuple[bytes, str, int]:
        identity = environment.identity()
        return identity.address, identity.host, identity.pid

    identities = [run_virtual(main, seed=seed) for seed in (1, 1, 2)]
    assert identities[0] == identities[1] != identities[2]
    assert identities[0][:2] == (b"\x7f\0\0\1", "127.0.0.1")
