"""The pending table against a small model: every request settles exactly once, by its deadline plus one look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker_sim.worlds.virtual_loop import VirtualLoop
from rocketmq_aio.errors import ConnectionLostError, RemoteProtocolError, RequestTimeoutError, RocketMQError
from rocketmq_aio.net.connection import OPAQUE_MAX
from rocketmq_aio.wire.incoming import Reply
from tests.unit.net.fakes import SCAN, World, decode_stream, reply_frame

DUE_MAX = 2.0
EPSILON = 1e-9
WHICH = st.integers(0, 1000)


class Ask:
    """One request, and what was heard of it. As a sink it counts; as a future it cannot be set twice."""

    def __init__(self, machine: PendingMachine, due_in: float) -> None:
        self.machine = machine
        self.due = machine.world.now() + due_in
        self.opaque = -1
        self.replies: list[int] = []
        self.errors: list[RocketMQError] = []
        self.flushed = False
        self.future: asyncio.Future[Reply] | None = None

    def settle(self, reply: Reply) -> None:
        """An answer."""
        self.replies.append(reply.opaque)

    def fail(self, error: RocketMQError) -> None:
        """No answer. It comes from a look, which must not be early, or from the end of the connection."""
        self.errors.append(error)
        if isinstance(error, RequestTimeoutError):
            assert self.machine.world.now() >= self.due

    @property
    def outcomes(self) -> int:
        """How often it was settled."""
        if self.future is not None:
            return int(self.future.done())
        return len(self.replies) + len(self.errors)

    def error(self) -> BaseException | None:
        """What it failed with, if it failed."""
        if self.future is not None:
            done = self.future.done() and not self.future.cancelled()
            return self.future.exception() if done else None
        return self.errors[0] if self.errors else None


class PendingMachine(RuleBasedStateMachine):
    """The model is a dictionary: opaque → the request that waits under it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.complaints: list[Any] = []
        self.loop.set_exception_handler(lambda _loop, context: self.complaints.append(context))
        self.world = self.run(World)
        self.asks: list[Ask] = []
        self.waiting: dict[int, Ask] = {}
        self.late_answers = 0
        self.stalled = False

    def run(self, action: Callable[[], Any], seconds: float = 0.0) -> Any:
        """Run something in the loop, and let time pass."""

        async def main() -> Any:
            result = action()
            await asyncio.sleep(seconds)
            return result

        return self.loop.run_until_complete(main())

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return not self.world.connection.closed

    # --- asking

    @precondition(lambda self: self.is_open)
    @rule(due_in=st.floats(0, DUE_MAX), kind=st.sampled_from(["request", "future", "sink"]), turn=st.booleans())
    def ask(self, due_in: float, kind: str, turn: bool) -> None:
        """By the warm path, with a future or with an object; alone in its tick, or with what comes next."""
        ask = Ask(self, due_in)

        def send() -> None:
            if kind == "request":
                ask.future = self.world.request(due_in)
                ask.opaque = next(reversed(self.world.connection._pending))
                return
            sink: Any = ask
            if kind == "future":
                sink = ask.future = self.loop.create_future()
            ask.opaque = self.world.submit(sink, due_in)

        if turn:
            self.run(send)
        else:
            send()
        assert ask.opaque not in self.waiting and 0 <= ask.opaque <= OPAQUE_MAX
        self.asks.append(ask)
        self.waiting[ask.opaque] = ask

    @precondition(lambda self: self.is_open)
    @rule(back=st.integers(0, 5))
    def come_round(self, back: int) -> None:
        """The counter of opaques is near its end, or among numbers that are in use."""
        used = list(self.waiting)
        self.world.connection._opaque = used[back % len(used)] if used and back % 2 else OPAQUE_MAX - back

    # --- answering

    @precondition(lambda self: self.is_open and self.waiting)
    @rule(picks=st.lists(WHICH, min_size=1, max_size=6), cut=st.integers(0, 200))
    def answer(self, picks: list[int], cut: int) -> None:
        """Some of what waits, in any order, twice perhaps, in two pieces."""
        known = list(self.waiting)
        opaques = [known[pick % len(known)] for pick in picks]
        stream = b"".join(reply_frame(opaque) for opaque in opaques)
        for opaque in opaques:
            ask = self.waiting.pop(opaque, None)
            if ask is None or (ask.future is not None and ask.future.done()):
                self.late_answers += 1
        cut %= len(stream)
        self.world.connection.data_received(stream[:cut])
        self.world.connection.data_received(stream[cut:])

    @precondition(lambda self: self.is_open)
    @rule(opaque=st.sampled_from([-1, -(2**31), 12_345_678]))
    def answer_nobody(self, opaque: int) -> None:
        """An answer to what was never asked."""
        self.world.answer(opaque)
        self.late_answers += 1

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """A caller gives up. The entry stays."""
        futures = [ask.future for ask in self.asks if ask.future is not None and not ask.future.done()]
        if futures:
            futures[which % len(futures)].cancel()

    # --- time

    @rule(seconds=st.floats(0, 1.0))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.run(lambda: None, seconds)
        self.forget_what_ended()

    @rule(seconds=st.floats(0.1, 5.0))
    def stall(self, seconds: float) -> None:
        """The loop is blocked for a while; then it turns."""
        self.run(lambda: None)
        self.world.jumped += seconds
        self.run(lambda: None, 2 * SCAN)
        self.forget_what_ended()

    def forget_what_ended(self) -> None:
        """Between its deadline and the next look a request may or may not have ended; the model asks which."""
        now, table = self.world.now(), self.world.connection._pending
        for opaque, ask in list(self.waiting.items()):
            if ask.due <= now and opaque not in table:
                del self.waiting[opaque]
                cancelled = ask.future is not None and ask.future.cancelled()
                assert cancelled or isinstance(ask.error(), RequestTimeoutError)

    # --- ends

    @precondition(lambda self: self.is_open and len(self.asks) > 8)
    @rule(how=st.sampled_from(["lost", "abort", "garbage"]))
    def end(self, how: str) -> None:
        """The connection ends; everything that waits hears of it at once, and whether it was written."""
        connection = self.world.connection
        written = {command.opaque for command in decode_stream(b"".join(self.world.transport.writes[-1000:]))}
        flushed = {opaque for opaque, entry in connection._pending.items() if entry[2].flushed_at > 0}
        assert flushed <= written
        if how == "lost":
            connection.connection_lost(OSError("reset"))
        elif how == "abort":
            connection.abort()
        else:
            connection.data_received(b"\xff" * 8)
        kind = RemoteProtocolError if how == "garbage" else ConnectionLostError
        for opaque, ask in self.waiting.items():
            if ask.future is None or not ask.future.cancelled():
                error = ask.error()
                assert type(error) is kind and error.maybe_stored == (opaque in flushed)
        self.waiting.clear()

    # --- what must hold

    @invariant()
    def table_is_the_model(self) -> None:
        """Neither an entry too many nor one too few, and the late answers counted."""
        connection = self.world.connection
        assert set(connection._pending) == set(self.waiting)
        assert connection.pending_count == len(self.waiting)
        assert connection.late_answers == self.late_answers

    @invariant()
    def each_settles_once(self) -> None:
        """Not before its time, not twice, and by its deadline plus one look."""
        now = self.world.now()
        for ask in self.asks:
            waits = self.waiting.get(ask.opaque) is ask
            assert ask.outcomes <= 1
            assert ask.outcomes == 1 or waits
            if waits:
                assert ask.outcomes == 0 or (ask.future is not None and ask.future.cancelled())
                assert now <= ask.due + SCAN + EPSILON

    def teardown(self) -> None:
        """After the last deadline and one look nothing waits, no timer is left, and nobody complained."""
        try:
            self.wait(DUE_MAX + SCAN)
            self.table_is_the_model()
            self.each_settles_once()
            assert self.waiting == {} and all(ask.outcomes == 1 for ask in self.asks)
            self.run(lambda: None, SCAN)
            assert self.world.timers() == 0
            errors = [ask.error() for ask in self.asks if ask.error() is not None]
            assert len({id(error) for error in errors}) == len(errors)
            assert self.complaints == []
        finally:
            self.loop.finish()
            self.loop.close()


TestPending = PendingMachine.TestCase
TestPending.settings = settings(max_examples=100, stateful_step_count=40, phases=set(Phase) - {Phase.explain})
