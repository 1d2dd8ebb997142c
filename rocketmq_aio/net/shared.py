"""Work that is done once for all who want it: starting it, and waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from rocketmq_aio.errors import ClosedError, RocketMQError

__all__ = ["Spawn", "wait_shared"]

T = TypeVar("T")


class Spawn(Protocol[T]):
    """Runs a coroutine as a task that somebody owns: `Service.spawn`, as those below it see it."""

    def __call__(self, name: str, coroutine: Coroutine[Any, Any, T], /) -> asyncio.Task[T]:
        """Start it."""


async def wait_shared(task: asyncio.Task[T], what: str) -> T:
    """The result of a background task. Safe to cancel: the task goes on, for the others.

    Args:
        task: the task.
        what: what is waited for, for the error's text.

    Raises:
        ClosedError: the task itself was cancelled, because its owner closes. (A plain `await` would raise
            `CancelledError`, as if the caller had been cancelled.)
        RocketMQError: what the task raised, as a new object for each who waits.
    """
    outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def ended(task: asyncio.Task[T]) -> None:
        if outcome.done():
            return
        if task.cancelled():
            outcome.set_exception(ClosedError(f"Closed while waiting for {what}."))
            return
        error = task.exception()
        if error is None:
            outcome.set_result(task.result())
        else:
            outcome.set_exception(error.again() if isinstance(error, RocketMQError) else error)

    task.add_done_callback(ended)
    try:
        return await outcome
    finally:
        task.remove_done_callback(ended)
