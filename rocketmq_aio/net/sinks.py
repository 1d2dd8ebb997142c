"""Where the outcome of a request goes: a plain future, or an object that has more to do with it.

A warm send waits on a future, because nothing is cheaper. Whatever needs more (a heartbeat that nobody waits for,
later a retry, the members of a batch, a pull) is an object with `settle` and `fail`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from rocketmq_aio.errors import RocketMQError
from rocketmq_aio.wire.incoming import Reply

__all__ = ["Sink", "fail", "settle"]


class Sink(Protocol):
    """Where the outcome of a request goes: exactly one of the two is called, once, in the context of read or scan.

    Neither may raise.
    """

    def settle(self, reply: Reply) -> None:
        """An answer came, of whatever code."""

    def fail(self, error: RocketMQError) -> None:
        """No answer will come."""


def fail(sink: Any, error: RocketMQError) -> None:
    """Tell a sink, of either kind, that no answer will come."""
    if isinstance(sink, asyncio.Future):
        settle(sink, error)
    else:
        sink.fail(error)


def settle(future: asyncio.Future[None], error: RocketMQError | None) -> None:
    """End a future, if nobody has. Also with its loop closed."""
    if future.done():
        return
    try:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
            # Looked at here, because somebody who is cancelled in this very turn never will: no reason to log.
            future.exception()
    except RuntimeError:  # the loop is closed: nobody can be told any more
        pass
