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
        RocketMQError: what the task raised, as a new error for each who waits.
    """
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        me = asyncio.current_task()
        if task.cancelled() and me is not None and not me.cancelling():
            raise ClosedError(f"Closed while waiting for {what}.") from None
        raise
    except RocketMQError as error:
        raise error.again() from error
