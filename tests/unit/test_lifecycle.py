"""The life of a client object: its states, and background tasks that somebody owns."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading

import pytest

from rocketmq_aio.environment import housekeeping
from rocketmq_aio.errors import (
    ClosedError,
    ConnectError,
    NotStartedError,
    StateError,
    WrongLoopError,
)
from rocketmq_aio.lifecycle import Service, State
from tests.unit.net.fakes import turns, virtual_time

NAME = "Producer 'group'"
callers_variable: contextvars.ContextVar[str] = contextvars.ContextVar("callers_variable", default="none")


def running() -> Service:
    """A service that runs in the running loop."""
    service = Service(NAME)
    service.begin()
    service.state = State.RUNNING
    return service


async def forever() -> None:
    """Wait for what does not come."""
    await asyncio.get_running_loop().create_future()


# --- states


@virtual_time
async def test_it_starts_once() -> None:
    """NEW → STARTING, bound to the running loop; a second start is refused in every later state."""
    service = Service(NAME)
    assert service.state is State.NEW and service.loop is None
    service.begin()
    assert service.state is State.STARTING and service.loop is asyncio.get_running_loop()
    for state in list(State)[1:]:
        service.state = state
        with pytest.raises(StateError, match="cannot be started again") as caught:
            service.begin()
        assert caught.value.text == f"Producer 'group' is {state.value} and cannot be started again."
        assert service.state is state


def test_it_needs_a_running_loop_to_start() -> None:
    """Without one nothing has happened: it can still be started later."""
    service = Service(NAME)
    with pytest.raises(RuntimeError, match="no running event loop"):
        service.begin()
    assert service.state is State.NEW


@pytest.mark.parametrize(
    ("state", "kind", "words", "hint"),
    [
        (State.NEW, NotStartedError, "is not started.", "Use 'async with', or 'await start()' first."),
        (State.STARTING, NotStartedError, "is still starting.", "Await start() first."),
        (State.RUNNING, WrongLoopError, "belongs to another event loop than the one", "run_coroutine_threadsafe"),
        (State.CLOSING, ClosedError, "is closing.", "Make a new one."),
        (State.CLOSED, ClosedError, "is closed.", "Make a new one."),
        (State.FAILED, StateError, "failed: ZeroDivisionError('division').", "This is a bug; please report it."),
    ],
    ids=lambda value: value.name if isinstance(value, State) else "",
)
def test_each_state_says_why_it_cannot_be_used(state: State, kind: type[StateError], words: str, hint: str) -> None:
    """The object, what it is, and what to do; after a crash, the crash is the cause."""
    service = Service(NAME)
    service.state = state
    service.crash = ZeroDivisionError("division") if state is State.FAILED else None
    error = service.state_error()
    assert type(error) is kind
    assert error.text.startswith(f"{NAME} {words}") and hint in error.hint
    assert error.__cause__ is service.crash


def test_another_thread_is_told_how_to_do_it() -> None:
    """While the loop runs, only its own thread may touch the object; afterwards any may."""
    outcome: list[Exception | None] = []
    services: list[Service] = []

    async def main() -> None:
        services.append(running())
        services[0].check_thread("Do it there.")
        thread = threading.Thread(target=check)
        thread.start()
        thread.join()

    def check() -> None:
        try:
            services[0].check_thread("Do it there.")
            outcome.append(None)
        except WrongLoopError as error:
            outcome.append(error)

    Service(NAME).check_thread("Do it there.")
    asyncio.run(main())
    assert isinstance(outcome[0], WrongLoopError)
    assert "Do it there." in str(outcome[0])
    thread = threading.Thread(target=check)
    thread.start()
    thread.join()
    assert outcome[1:] == [None]


# --- tasks


@virtual_time
async def test_tasks_are_owned_until_they_end() -> None:
    """Named, counted, and forgotten when they are done."""
    service = running()
    tasks = [service.spawn(name, forever()) for name in ("one", "two")]
    assert service.task_count == 2
    assert [task.get_name() for task in tasks] == [f"rocketmq_aio {NAME} one-1", f"rocketmq_aio {NAME} two-2"]
    done = service.spawn("three", asyncio.sleep(1, "result"))
    assert await done == "result"
    await turns(1)
    assert service.task_count == 2
    service.cancel_tasks()
    await service.join_tasks()
    assert service.task_count == 0 and all(task.cancelled() for task in tasks)
    await service.join_tasks()
    assert service.state is State.RUNNING  # a cancelled task is no crash


@virtual_time
async def test_tasks_are_cancelled_in_the_order_of_their_start() -> None:
    """And joining waits for what they still have to do."""
    service = running()
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            await forever()
        finally:
            ended.append(number)
            await asyncio.sleep(5 - number)
            ended.append(10 * number)

    for number in range(1, 5):
        service.spawn("work", work(number))
    await turns(1)
    service.cancel_tasks()
    await service.join_tasks()
    assert ended == [1, 2, 3, 4, 40, 30, 20, 10]


@virtual_time
async def test_nothing_of_the_caller_leaks_into_tasks() -> None:
    """They run in contexts of their own; only housekeeping is inherited, for what it starts is housekeeping too."""
    service = running()
    seen: dict[str, tuple[str, bool]] = {}

    async def note(name: str) -> None:
        seen[name] = (callers_variable.get(), housekeeping.get())

    async def parent(name: str) -> None:
        await note(name)
        callers_variable.set("parent's")
        await service.spawn(f"child of {name}", note(f"child of {name}"))

    callers_variable.set("caller's")
    await service.spawn("task", parent("task"))
    await service.spawn("repeating", parent("repeating"), repeats=True)
    assert seen == {
        "task": ("none", False),
        "child of task": ("none", False),
        "repeating": ("none", True),
        "child of repeating": ("none", True),
    }
    assert not housekeeping.get()


@virtual_time
async def test_start_and_close_may_come_from_different_tasks() -> None:
    """Web frameworks and async fixtures do that."""
    service = Service(NAME)

    async def start() -> None:
        service.begin()
        service.every("step", 1, forever, first=0)

    await asyncio.create_task(start())
    await asyncio.sleep(1)
    service.cancel_tasks()
    await asyncio.create_task(service.join_tasks())
    assert service.task_count == 0


@virtual_time
@pytest.mark.parametrize("state", [State.CLOSED, State.FAILED])
async def test_nothing_starts_after_the_end(state: State) -> None:
    """A task that starts when all others were cancelled would live on with nobody to end it."""
    service = running()
    service.state = state
    coroutine = forever()
    with pytest.raises(StateError):
        service.spawn("late", coroutine)
    assert service.task_count == 0
    with pytest.raises(RuntimeError, match="cannot reuse"):  # closed, so that nobody warns that it was never awaited
        await coroutine


@virtual_time
async def test_while_closing_work_goes_on() -> None:
    """What is in flight may still need a connection or a route."""
    service = running()
    service.state = State.CLOSING
    assert await service.spawn("connect", asyncio.sleep(1, "connection")) == "connection"


def test_cancelling_with_the_loop_closed() -> None:
    """At exit: tasks of a closed loop cannot be cancelled, and that is no error."""
    loop = asyncio.new_event_loop()
    services: list[Service] = []
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        services.append(running())
        tasks.extend(services[0].spawn("work", forever()) for _ in range(2))
        await turns(1)

    loop.run_until_complete(start())
    loop.close()
    services[0].cancel_tasks()
    assert services[0].state is State.RUNNING
    for task in tasks:
        task._log_destroy_pending = False


# --- every


@virtual_time
async def test_every_repeats_at_its_interval() -> None:
    """First after `first` seconds, then `interval` after each end; as housekeeping."""
    service = running()
    loop = asyncio.get_running_loop()
    started = loop.time()
    times: list[float] = []

    async def step() -> None:
        assert housekeeping.get()
        times.append(round(loop.time() - started, 6))
        await asyncio.sleep(1)

    service.every("step", 10, step, first=3)
    await asyncio.sleep(40)
    assert times == [3, 14, 25, 36]


@virtual_time
async def test_every_outlives_the_errors_of_this_library(caplog: pytest.LogCaptureFixture) -> None:
    """A round may fail: it is logged, counted, and tried again."""
    service = running()
    rounds = 0

    async def step() -> None:
        nonlocal rounds
        rounds += 1
        if rounds % 2:
            raise ConnectError("refused")

    service.every("heartbeat", 10, step, first=0)
    await asyncio.sleep(45)
    assert rounds == 5
    assert service.state is State.RUNNING and service.task_count == 1
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [f"{NAME}: heartbeat failed, again in 10 s: refused"] * 3


@virtual_time
async def test_every_does_not_outlive_a_bug() -> None:
    """Anything else fails the service; the step is not called again."""
    service = running()
    rounds = 0

    async def step() -> None:
        nonlocal rounds
        rounds += 1
        raise ZeroDivisionError

    service.every("step", 1, step, first=0)
    await asyncio.sleep(10)
    assert rounds == 1 and service.state is State.FAILED and service.task_count == 0
