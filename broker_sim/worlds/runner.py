"""Runs one asynchronous program in virtual time, from an empty loop to a closed one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from broker_sim.worlds.environments import VIRTUAL_START, virtual
from broker_sim.worlds.hang import DeadlockError
from broker_sim.worlds.virtual_loop import HANG_AFTER, VirtualLoop
from rocketmq_aio.environment import Environment

__all__ = ["refuse_running_loop", "run_virtual"]

T = TypeVar("T")


def run_virtual(
    main: Callable[[Environment], Awaitable[T]],
    *,
    seed: int = 0,
    hang_after: float = HANG_AFTER,
    start: datetime = VIRTUAL_START,
) -> T:
    """Run `main` in a virtual environment of its own, and wait for it.

    At the end, also after an error, the tasks that are left are cancelled in the order of their creation.

    Args:
        main: is called with the environment.
        seed: what everything random is drawn from. An error carries it as a note.
        hang_after: virtual seconds without progress after which the program hangs.
        start: what the wall clock shows first. An aware datetime.

    Returns:
        What `main` returns.

    Raises:
        DeadlockError: The program hangs, or tasks that are left do not end although they are cancelled.
        RuntimeError: A loop is running in this thread.
    """
    refuse_running_loop()
    loop = VirtualLoop(hang_after=hang_after, seed=seed)
    try:
        try:
            result = loop.run_until_complete(main(virtual(loop, seed, start)))
        except BaseException as error:
            if stuck := _finish(loop):
                error.add_note(str(stuck))
            raise
        if stuck := _finish(loop):
            raise stuck
        return result
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pytest's outcomes are no Exceptions
        error.add_note(f"seed={seed}")
        raise
    finally:
        loop.close()


def refuse_running_loop() -> None:
    """Raise a `RuntimeError` if a loop is running in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("a virtual loop cannot run inside a running loop: call it from a plain function")


def _finish(loop: VirtualLoop) -> DeadlockError | None:
    """End what is left; the error tells what does not end."""
    tasks = loop.finish()
    if not tasks:
        return None
    error = loop.hang("tasks that are left do not end although they were cancelled")
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # the error has told
    return error
