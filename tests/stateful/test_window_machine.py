"""The window against a small model: a list of who is inside, and a list of who waits, served from its head."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker_sim.worlds.virtual_loop import VirtualLoop
from rocketmq_aio.errors import ClosedError
from rocketmq_aio.window import SendWindow

MESSAGES_MAX, BYTES_MAX = 3, 10
SIZES = st.integers(1, BYTES_MAX)
WHICH = st.integers(0, 1000)


class Sender:
    """One message that wants room."""

    def __init__(self, machine: WindowMachine, size: int) -> None:
        self.size = size
        self.machine = machine
        self.task: asyncio.Task[None] | None = None
        self.is_in = False
        self.error: BaseException | None = None

    async def enter(self) -> None:
        """Note when it is in, and why it is not."""
        try:
            await self.machine.window.enter(self.size)
        except (asyncio.CancelledError, ClosedError) as error:
            self.error = error
            return
        self.is_in = True


class WindowMachine(RuleBasedStateMachine):
    """Operations happen in one turn of the loop until `settle` lets it turn; then both must agree."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.complaints: list[Any] = []
        self.loop.set_exception_handler(lambda _loop, context: self.complaints.append(context))
        self.window = SendWindow(MESSAGES_MAX, BYTES_MAX)
        self.idle: asyncio.Task[None] | None = None
        self.settled = True
        # The model.
        self.inside: list[Sender] = []
        self.line: list[Sender] = []
        self.arriving: list[Sender] = []
        self.refused: list[Sender] = []

    # --- the model

    def fits(self, size: int) -> bool:
        """Whether there is room for one more."""
        total = sum(sender.size for sender in self.inside)
        return len(self.inside) < MESSAGES_MAX and total + size <= BYTES_MAX

    def serve_line(self) -> None:
        """From the head, as long as the head fits."""
        while self.line and self.fits(self.line[0].size):
            self.inside.append(self.line.pop(0))

    # --- operations, all in the turn that goes on

    @rule(size=SIZES)
    def enter(self, size: int) -> None:
        """Somebody comes the slow way. Its task runs when the loop turns."""
        sender = Sender(self, size)
        sender.task = self.loop.create_task(sender.enter())
        self.arriving.append(sender)
        self.settled = False

    @rule(size=SIZES)
    def enter_warm(self, size: int) -> None:
        """Somebody compares two counters and counts by hand. Nobody who waits may be overtaken."""
        window = self.window
        if window.messages < window.limit and window.bytes + size <= window.bytes_max:
            assert not self.line and self.fits(size)
            window.messages += 1
            window.bytes += size
            sender = Sender(self, size)
            sender.is_in = True
            self.inside.append(sender)
        elif self.settled:
            assert self.line or not self.fits(size)

    @rule(which=WHICH, by_hand=st.booleans())
    def leave(self, which: int, by_hand: bool) -> None:
        """One who is in, and knows it, goes."""
        present = [sender for sender in self.inside if sender.is_in]
        if not present:
            return
        sender = present[which % len(present)]
        self.inside.remove(sender)
        if by_hand:
            self.window.messages -= 1
            self.window.bytes -= sender.size
            if self.window.watched:
                self.window.admit()
        else:
            self.window.leave(sender.size)
        self.serve_line()
        self.settled = False

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """One who waits, or was let in and has not heard of it yet, is cancelled."""
        waiting = self.line + [sender for sender in self.inside if not sender.is_in]
        if not waiting:
            return
        sender = waiting[which % len(waiting)]
        assert sender.task is not None
        sender.task.cancel()
        (self.line if sender in self.line else self.inside).remove(sender)
        self.refused.append(sender)
        self.serve_line()
        self.settled = False

    @rule(cancelled=st.sampled_from(["", "before", "after"]))
    def close(self, cancelled: str) -> None:
        """All who wait are turned away, and some of them are cancelled in the same turn."""
        self.settle()
        leaving = [sender.task for sender in self.line[::2] if sender.task is not None and cancelled]
        if cancelled == "before":
            for task in leaving:
                task.cancel()
        self.window.close(ClosedError("closed"))
        if cancelled == "after":
            for task in leaving:
                task.cancel()
        self.refused += self.line
        self.line.clear()
        self.settled = False

    @precondition(lambda self: self.idle is None)
    @rule()
    def wait_for_idle(self) -> None:
        """Somebody closes and waits for the end."""
        self.idle = self.loop.create_task(self.window.idle())
        self.settled = False

    @precondition(lambda self: self.idle is not None)
    @rule()
    def stop_waiting_for_idle(self) -> None:
        """And gives up."""
        assert self.idle is not None
        self.idle.cancel()
        self.settle()
        self.idle = None

    @rule()
    def settle(self) -> None:
        """The loop turns until nothing moves."""
        for sender in self.arriving:
            if not self.line and self.fits(sender.size):
                self.inside.append(sender)
            else:
                self.line.append(sender)
        self.arriving.clear()
        self.serve_line()
        self.turn()
        if self.idle is not None and self.idle.done() and not self.idle.cancelled():
            self.idle.result()
            self.idle = None
        self.settled = True

    def turn(self) -> None:
        """Eight turns are more than any of it needs."""

        async def turns() -> None:
            for _ in range(8):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    # --- what must hold

    @invariant()
    def limits_are_kept(self) -> None:
        """At every moment, settled or not."""
        assert 0 <= self.window.messages <= MESSAGES_MAX
        assert 0 <= self.window.bytes <= BYTES_MAX

    @invariant()
    def both_agree(self) -> None:
        """Who is in, who waits and whether the door is open are as in the model, person by person."""
        if not self.settled:
            return
        window = self.window
        assert window.messages == len(self.inside)
        assert window.bytes == sum(sender.size for sender in self.inside)
        assert window.waiting == len(self.line)
        assert (window.limit == 0) == bool(self.line)
        assert window.watched == bool(self.line or self.idle is not None)
        assert all(sender.is_in for sender in self.inside)
        assert all(sender.error is not None and not sender.is_in for sender in self.refused)
        assert not any(sender.is_in or sender.error for sender in self.line)
        if self.idle is not None:
            assert self.inside or self.line

    def teardown(self) -> None:
        """Everybody leaves; the window is at rest, and nothing was reported to the loop."""
        try:
            self.settle()
            self.both_agree()
            while self.inside:
                self.leave(0, False)
                self.settle()
                self.both_agree()
            assert not self.line and self.idle is None and not self.window.watched
            assert self.complaints == []
        finally:
            self.loop.finish()
            self.loop.close()


TestWindow = WindowMachine.TestCase
TestWindow.settings = settings(max_examples=150, stateful_step_count=40, phases=set(Phase) - {Phase.explain})
