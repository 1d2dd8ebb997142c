"""What a run depends on: the event loop, the versions, the processors."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Coroutine
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]

__all__ = ["HAS_UVLOOP", "loop_factory", "run", "versions"]

T = TypeVar("T")

HAS_UVLOOP = uvloop is not None


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loops of both ends: uvloop if it is installed, else asyncio."""
    return asyncio.new_event_loop if uvloop is None else uvloop.new_event_loop


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in a new loop and return what it returns."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)


def versions() -> str:
    """One line: interpreter, libraries, processors."""
    parts = [f"{platform.python_implementation()} {platform.python_version()}"]
    for name in ("rocketmq-aio", "uvloop", "msgspec"):
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            parts.append(f"no {name}")
    return f"{', '.join(parts)}; {platform.system()} {platform.machine()}, {os.cpu_count()} processors"
