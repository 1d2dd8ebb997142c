"""Back-pressure is a door, not a queue: how much may be in flight, and who waits in line outside.

The warm path of a send compares `messages` with `limit` and `bytes` with `bytes_max`, and counts by hand; it calls
`admit`, and that only while somebody watches. While somebody waits, `limit` is 0: the door is shut for all who come
later, so that nobody is overtaken.

This file knows counters and futures, and nothing of messages.

Source: the two semaphores of `DefaultMQProducerImpl.java` (5.3.3) for what is counted.
Differs: Java blocks a thread, or fails once its permits are gone; here the wait is in line and ends with the deadline.
"""

from __future__ import annotations

import asyncio
from collections import deque

from rocketmq_aio.errors import RocketMQError

__all__ = ["SendWindow"]


class SendWindow:
    """Room for messages and bytes in flight.

    Args:
        messages_max: messages.
        bytes_max: bytes of their bodies.
    """

    __slots__ = ("bytes", "bytes_max", "limit", "messages", "messages_max", "waits", "watched", "_idle", "_line")

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self.messages_max = messages_max
        self.bytes_max = bytes_max
        self.messages = 0
        self.bytes = 0
        self.limit = messages_max  # 0 while somebody waits
        self.waits = 0
        self.watched = False  # somebody waits: for room, or for the end of what is in flight
        self._idle: asyncio.Future[None] | None = None
        self._line: deque[tuple[asyncio.Future[None], int]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait in line."""
        return len(self._line)

    def try_enter(self, size: int) -> bool:
        """Take room for one message of `size` bytes, if there is some and nobody waits for it."""
        if self.messages >= self.limit or self.bytes + size > self.bytes_max:
            return False
        self.messages += 1
        self.bytes += size
        return True

    async def enter(self, size: int) -> None:
        """Take room for one message of `size` bytes, in line. Cancelled, it has taken nothing."""
        if self.try_enter(size):
            return
        self.waits += 1
        self.limit = 0
        self.watched = True
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (place, size)
        self._line.append(entry)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                if entry in self._line:  # not if the line was turned away meanwhile
                    self._line.remove(entry)
                    self.admit()
            elif place.exception() is None:  # let in and cancelled in the same turn: the room goes to the next one
                self.leave(size)
            raise

    def leave(self, size: int) -> None:
        """Give the room of one message of `size` bytes back."""
        self.messages -= 1
        self.bytes -= size
        if self.watched:
            self.admit()

    def admit(self) -> None:
        """Let in from the line whoever fits, in order. Called after room was given back by hand."""
        line = self._line
        while line:
            place, size = line[0]
            if not place.done():
                if self.messages >= self.messages_max or self.bytes + size > self.bytes_max:
                    return
                self.messages += 1
                self.bytes += size
                place.set_result(None)
                line.popleft()
            else:  # cancelled, and about to take itself out
                return
        self.limit = self.messages_max
        if self._idle is None:
            self.watched = False
        elif self.messages == 0 and not self._idle.done():
            self._idle.set_result(None)

    async def idle(self) -> None:
        """Wait until nothing is in flight and nobody waits in line. For one caller at a time; safe to cancel."""
        if self.messages == 0 and not self._line:
            return
        self.watched = True
        self._idle = asyncio.get_running_loop().create_future()
        try:
            await self._idle
        finally:
            self._idle = None
            self.watched = bool(self._line)

    def close(self, error: RocketMQError) -> None:
        """Turn away all who wait in line, each with a new error like `error`."""
        while self._line:
            place, _ = self._line.popleft()
            try:
                if not place.done():
                    place.set_exception(error.again())
            except RuntimeError:  # the loop is closed: nobody can be told any more
                pass
        self.admit()  # without a line the door is open, and `idle` may be at its end
