"""Deadlines without timers: a look at all pending entries every 50 ms.

A look costs 24 ns an entry; a timer for each request would cost a hundred times that. An entry ends late by at most one
interval, and never early.

*Stalls.* When the user's loop was blocked, answers may lie unread in the socket while their deadlines pass. A look that
comes late therefore ends nothing before what had arrived is read: it waits for turns of the loop in which nothing was
read any more. asyncio reads at most 256 KiB of a connection in a turn, uvloop everything.

This file knows deadlines and turns of the loop, and nothing of frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from rocketmq_aio.environment import housekeeping_context

__all__ = ["DeadlineScan", "Tick"]

INTERVAL = 0.05
#: A look that is late by more than this means that the loop stalled.
STALL_AFTER = 0.05
#: Entries that one callback looks at: a full window must not hold the loop.
SLICE = 8_192
#: Turns that are given to reading after a stall. A peer that never stops talking must not put expiry off for ever.
TURNS_MAX = 100


class Tick(msgspec.Struct):
    """What the requests of one flush have in common. (A struct, because making one calls no Python code.)

    Attributes:
        flushed_at: when they were written, in monotonic seconds; 0.0 while they are not.
        waiting: one-way sends, which are done once they are written.
    """

    flushed_at: float = 0.0
    waiting: list[asyncio.Future[None]] | None = None


Entry = tuple[Any, float, Tick]  # sink, deadline, tick


class DeadlineScan:
    """Ends pending entries whose deadline has passed.

    Args:
        pending: the table; entries are taken out of it.
        monotonic: tells the time.
        reads: how often the connection has received bytes. (Not when: several reads can have one time.)
        expire: told of each entry that was taken out.

    Attributes:
        handle: the next look, or None: whoever adds an entry then calls `arm`.
        stalls: how often the loop was found to have been blocked.
    """

    __slots__ = (
        "_context", "_due", "_expire", "_loop", "_monotonic", "_pending", "_reads", "_seen", "_turns", "handle",
        "stalls",
    )

    def __init__(
        self,
        pending: dict[int, Entry],
        monotonic: Callable[[], float],
        reads: Callable[[], int],
        expire: Callable[[Entry], None],
    ) -> None:
        self.stalls = 0
        self._pending = pending
        self._monotonic = monotonic
        self._reads = reads
        self._expire = expire
        self._loop: asyncio.AbstractEventLoop | None = None
        self.handle: asyncio.Handle | None = None
        self._context = housekeeping_context()
        self._due = 0.0
        self._turns = 0
        self._seen = 0

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look from now on, as long as something is pending."""
        if self.handle is None:
            self._loop = loop
            self._due = self._monotonic() + INTERVAL
            self.handle = loop.call_later(INTERVAL, self._look, context=self._context)

    def stop(self) -> None:
        """Look no more."""
        if self.handle is not None:
            self.handle.cancel()
            self.handle = None

    def _look(self) -> None:
        now = self._monotonic()
        if now - self._due > STALL_AFTER:
            self.stalls += 1
            self._turns = 0
            self._let_read()
        else:
            self._end_overdue(now, list(self._pending))

    def _let_read(self) -> None:
        self._seen = self._reads()
        self._turns += 1
        self._soon(self._let_read_more)

    def _let_read_more(self) -> None:
        # A second turn: asyncio handles what its selector found after what was scheduled by the turn before.
        self._soon(self._look_again)

    def _look_again(self) -> None:
        if self._reads() != self._seen and self._turns < TURNS_MAX:
            self._let_read()
        else:
            self._end_overdue(self._monotonic(), list(self._pending))

    def _end_overdue(self, now: float, opaques: list[int]) -> None:
        pending = self._pending
        try:
            for opaque in opaques[:SLICE]:
                entry = pending.get(opaque)
                if entry is not None and entry[1] <= now:
                    del pending[opaque]
                    self._expire(entry)
        finally:  # a sink that raises is a bug, and must not take the deadlines of all others with it
            self._go_on(now, opaques[SLICE:])

    def _go_on(self, now: float, opaques: list[int]) -> None:
        if self.handle is None:  # stopped by what came of it
            return
        if opaques:
            self._soon(self._end_overdue, now, opaques)
            return
        self.handle = None
        if self._pending and self._loop is not None:
            self.arm(self._loop)

    def _soon(self, callback: Callable[..., None], *args: Any) -> None:
        assert self._loop is not None
        self.handle = self._loop.call_soon(callback, *args, context=self._context)
