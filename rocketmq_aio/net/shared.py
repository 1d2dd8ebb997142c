"""Waiting for work that others wait for too."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from rocketmq_aio.errors import ClosedError, RocketMQError

__all__ = ["wait_shared"]

T = TypeVar("T")


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
