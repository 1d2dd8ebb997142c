"""What a program that makes no progress is told: who waits where, and for what.

Knows tasks and coroutines; when a program hangs is the loop's decision (`virtual_loop.py`).
"""

from __future__ import annotations

import asyncio
import functools
import gc
import re
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, NamedTuple

__all__ = ["Birth", "DeadlockError", "callback_name", "most_frequent", "task_report"]

NAMES_MAX = 8
"""So many tasks with the same stack are named; the rest is counted."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+|(?<=\.\.\.)0?x?[0-9a-fA-F]{4,}(?=>)")
"""A memory address, or what `reprlib` leaves of it when it cuts the middle out of a text."""


class DeadlockError(RuntimeError):
    """A program in virtual time hangs: nothing it waits for can happen any more, or it turns without end.

    The text holds the stack of every task.

    Attributes:
        elapsed: virtual seconds since the start of the loop.
        seed: the seed of the run, None when the loop was made without one.
    """

    def __init__(self, text: str, *, elapsed: float = 0.0, seed: int | None = None) -> None:
        super().__init__(text)
        self.elapsed = elapsed
        self.seed = seed

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(DeadlockError, elapsed=self.elapsed, seed=self.seed), (self.args[0],)


class Birth(NamedTuple):
    """How a task came into the world.

    Attributes:
        sequence: grows with each task of a loop.
        housekeeping: it was born to repeat by itself.
    """

    sequence: int
    housekeeping: bool


def task_report(tasks: Iterable[tuple[asyncio.Task[Any], Birth]]) -> str:
    """The stacks of tasks that are not done, innermost call last, foreground first.

    Tasks that wait at the same place for the same kind of thing share a paragraph. Without memory addresses, so that
    two runs with one seed give the same text.
    """
    paragraphs: dict[tuple[bool, str], list[str]] = {}
    for task, birth in sorted(tasks, key=lambda entry: (entry[1].housekeeping, entry[1].sequence)):
        body = "".join(_stack(task)) + f"    waits for {_waits_for(task)}"
        paragraphs.setdefault((birth.housekeeping, body), []).append(task.get_name())
    return "\n".join(
        f"  {_names(names)}{' (housekeeping)' if housekeeping else ''}:\n{body}"
        for (housekeeping, body), names in paragraphs.items()
    )


def callback_name(callback: object) -> str:
    """A name for what a handle calls: the task whose step it is, or the function."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        coroutine: Any = owner.get_coro()
        return f"task {owner.get_name()} ({getattr(coroutine, '__qualname__', coroutine)})"
    return str(getattr(callback, "__qualname__", None) or _plain(callback))


def most_frequent(counts: Counter[str], limit: int = 5) -> str:
    """The names that were counted most often, one a line. Equal counts keep the order in which they were first seen."""
    return "\n".join(f"  {count} × {name}" for name, count in counts.most_common(limit))


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_MAX])
    return shown if len(names) <= NAMES_MAX else f"{shown} and {len(names) - NAMES_MAX} more"


def _stack(task: asyncio.Task[Any]) -> list[str]:
    frames = list(_frames(task.get_coro()))
    return traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames).format()


def _frames(awaited: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine, from its own to the innermost. `Task.get_stack` gives the first only."""
    seen: set[int] = set()
    while awaited is not None and id(awaited) not in seen:
        seen.add(id(awaited))
        for prefix, inner in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            if hasattr(awaited, inner):
                frame = getattr(awaited, f"{prefix}_frame")
                if frame is not None:
                    yield frame
                awaited = getattr(awaited, inner)
                break
        else:
            # What `async for` and `coroutine.__await__()` wait on shows its inside only to the garbage collector.
            referents = gc.get_referents(awaited) if type(awaited).__name__ in _WRAPPERS else []
            awaited = next((inner for inner in referents if type(inner).__name__ in _SUSPENDABLE), None)


_WRAPPERS = frozenset({"coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable"})
_SUSPENDABLE = frozenset({"coroutine", "generator", "async_generator"}) | _WRAPPERS


def _waits_for(task: asyncio.Task[Any]) -> str:
    awaited = getattr(task, "_fut_waiter", None)
    if awaited is None:
        return "its next turn"
    if isinstance(awaited, asyncio.Task):
        return f"task {awaited.get_name()}"
    return _plain(awaited)


def _plain(value: object) -> str:
    return _ADDRESS.sub("", repr(value))
