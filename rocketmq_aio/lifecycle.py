"""The life of a client object: its states, its background tasks, and who hears of their crashes.

A `Service` owns its background tasks in the order of their start and cancels them in that order. They run in contexts
of their own, so that nothing of the caller of `start()` leaks into them, and `start` and `aclose` may come from
different tasks (web frameworks and async fixtures do that). A forgotten task or a silent crash cannot be: whatever a
task raises, but a `RocketMQError` of one round, fails the service, and the next call raises it.

This file knows states, tasks and forks, and nothing of messages.

Differs from the usual task group: asyncio's and anyio's groups belong to the task that opened them, and cancel from
sets ordered by address, which no simulation could repeat.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from rocketmq_aio.environment import housekeeping, housekeeping_context
from rocketmq_aio.errors import ClosedError, ForkedError, NotStartedError, RocketMQError, StateError, WrongLoopError

__all__ = ["Service", "State"]

logger = logging.getLogger("rocketmq_aio")


class State(enum.Enum):
    """Where a client object is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"


class Service:
    """States and background tasks of one client object.

    Args:
        name: what error texts call the object, such as ``Producer 'group'``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.NEW
        self.loop: asyncio.AbstractEventLoop | None = None
        self.forked = False
        self.crash: BaseException | None = None
        self.on_crash: Callable[[], object] | None = None
        self._thread = 0
        self.user_thread = 0  # whence it may be used while it is running; 0 while it may not be used at all
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._serial = 0
        _services.add(self)

    # --- states

    def begin(self) -> None:
        """NEW → STARTING, bound to the running loop.

        Raises:
            StateError: it was started before.
            ForkedError: it was made before a fork.
        """
        if self.forked:
            raise self.state_error()
        if self.state is not State.NEW:
            raise StateError(
                f"{self.name} is {self.state.value} and cannot be started again.", hint="Make a new one."
            )
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.state = State.STARTING

    def state_error(self) -> StateError:
        """Why the object cannot be used now, here. For callers that found that it cannot."""
        if self.forked:
            return ForkedError(
                f"{self.name} was inherited by a fork: its connections belong to the parent process.",
                hint="Make a new one in the child process.",
            )
        if self.state is State.NEW:
            return NotStartedError(
                f"{self.name} is not started.", hint="Use 'async with', or 'await start()' first."
            )
        if self.state is State.FAILED:
            error = StateError(f"{self.name} failed: {self.crash!r}.", hint="This is a bug; please report it.")
            error.__cause__ = self.crash
            return error
        if self.state in (State.CLOSING, State.CLOSED):
            return ClosedError(f"{self.name} is {self.state.value}.", hint="Make a new one.")
        if self.state is State.STARTING:
            return NotStartedError(f"{self.name} is still starting.", hint="Await start() first.")
        return self.wrong_loop_error()

    def wrong_loop_error(self) -> WrongLoopError:
        """It is used from another loop than its own."""
        return WrongLoopError(
            f"{self.name} belongs to another event loop than the one that runs here.",
            hint="From another thread use asyncio.run_coroutine_threadsafe(coroutine, loop_of_the_producer); "
            "a test with a loop of its own needs a producer of its own.",
        )

    def check_thread(self, hint: str) -> None:
        """Refuse a foreign thread.

        Args:
            hint: what to do from there.

        Raises:
            StateError: this is not the thread of the loop.
        """
        loop = self.loop
        if loop is not None and loop.is_running() and threading.get_ident() != self._thread:
            raise WrongLoopError(f"{self.name} runs in another thread.", hint=hint)

    # --- tasks

    def spawn(
        self, name: str, coroutine: Coroutine[Any, Any, Any], *, repeats: bool = False
    ) -> asyncio.Task[Any]:
        """Run `coroutine` as a background task of this service.

        Args:
            name: for the task's name and for logs.
            coroutine: what to run.
            repeats: it repeats by itself (a virtual loop must not take it for progress).

        Raises:
            StateError: the service has ended; a task that starts now would have nobody to cancel it.
        """
        if self.state in (State.CLOSED, State.FAILED):
            coroutine.close()
            raise self.state_error()
        assert self.loop is not None
        self._serial += 1
        key = f"{name}-{self._serial}"
        # What housekeeping starts is housekeeping too.
        context = housekeeping_context() if repeats or housekeeping.get() else contextvars.Context()
        task = self.loop.create_task(coroutine, name=f"rocketmq_aio {self.name} {key}", context=context)
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._task_done(key, done))
        return task

    def _task_done(self, key: str, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(key, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is None or isinstance(error, RocketMQError):
            return  # a RocketMQError has its reader: whoever awaits the task
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """A bug came to light: stop everything, and let the next call raise it."""
        if self.state in (State.CLOSED, State.FAILED):
            return
        self.crash = error
        self.state = State.FAILED
        logger.error("%s failed", self.name, exc_info=error)
        if self.on_crash is not None:
            self.on_crash()

    def every(self, name: str, interval: float, step: Callable[[], Awaitable[None]], *, first: float) -> None:
        """Call `step` every `interval` seconds in a background task, the first time after `first` seconds.

        A `RocketMQError` of one round is logged and outlived; anything else is a bug and fails the service.
        """
        self.spawn(name, self._repeat(name, interval, step, first), repeats=True)

    async def _repeat(self, name: str, interval: float, step: Callable[[], Awaitable[None]], first: float) -> None:
        await asyncio.sleep(first)
        while True:
            try:
                await step()
            except RocketMQError as error:
                logger.warning("%s: %s failed, again in %g s: %s", self.name, name, interval, error)
            await asyncio.sleep(interval)

    @property
    def task_count(self) -> int:
        """Background tasks that are alive."""
        return len(self._tasks)

    def cancel_tasks(self) -> None:
        """Cancel all background tasks, in the order of their start. Also with the loop closed."""
        for task in list(self._tasks.values()):
            try:
                task.cancel()
            except RuntimeError:  # the loop is closed; the task will never run again
                pass

    async def join_tasks(self) -> None:
        """Wait until all background tasks have ended."""
        while self._tasks:
            task = next(iter(self._tasks.values()))
            await asyncio.wait((task,))

    def unbind(self) -> None:
        """In a child process: forget the loop, touch nothing that belongs to the parent."""
        self.forked = True
        self.user_thread = 0
        self.loop = None
        self._tasks = {}


_services: weakref.WeakSet[Service] = weakref.WeakSet()


def _after_fork() -> None:
    for service in list(_services):
        service.unbind()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)
