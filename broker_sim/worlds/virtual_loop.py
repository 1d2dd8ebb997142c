"""An event loop in which time passes only when nothing else can happen.

The loop is asyncio's own, turn by turn. Where asyncio would ask the operating system and sleep, this one moves its
clock to the next timer. So an hour of retries costs what its callbacks cost, two runs of one program are the same run,
and a program that hangs is seen to hang. There is no operating system behind it: sockets, threads, name resolution,
signals and subprocesses are refused.

*A hang.* Somebody who repeats by himself (a heartbeat, a scan) keeps the clock going for ever, so the loop tells his
work by the context variable `housekeeping` from the program's own, the foreground. When for `hang_after` seconds
nothing of the foreground was scheduled, and no timer of the foreground is left that will ever run, whatever the program
waits for cannot come.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, SimpleNamespace
from typing import Any, NoReturn, TypeVarTuple

from broker_sim.worlds.hang import Birth, DeadlockError, callback_name, most_frequent, task_report
from rocketmq_aio.environment import housekeeping
from rocketmq_aio.errors import StateError

__all__ = ["HANG_AFTER", "TURNS_MAX", "VirtualLoop"]

Ts = TypeVarTuple("Ts")

HANG_AFTER = 600.0
"""Virtual seconds without progress after which a program hangs. Far above every timeout and expiry of RocketMQ."""

TURNS_MAX = 100_000
"""Turns without time moving after which a program hangs."""

WITNESSED_TURNS = 1_000
"""In so many of them, the last, the loop takes down what is called."""

FINISHING_TURNS_MAX = 1_000
"""Turns in which cancelled tasks must have ended."""


class _Timer(asyncio.TimerHandle):
    """A timer that comes after all earlier ones of the same time. asyncio's heap leaves the order of equals open."""

    __slots__ = ("foreground", "place")

    place: tuple[float, int]
    foreground: bool

    def __lt__(self, other: Any) -> bool:
        return self.place < other.place  # type: ignore[no-any-return]


class _AsyncGenerators:
    """Living async generators, in the order of their first step. asyncio's set has the order of their addresses."""

    def __init__(self) -> None:
        self._members: weakref.WeakKeyDictionary[AsyncGeneratorType[Any, Any], None] = weakref.WeakKeyDictionary()

    def add(self, generator: AsyncGeneratorType[Any, Any]) -> None:
        self._members[generator] = None

    def discard(self, generator: AsyncGeneratorType[Any, Any]) -> None:
        self._members.pop(generator, None)

    def clear(self) -> None:
        self._members.clear()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[AsyncGeneratorType[Any, Any]]:
        return iter(list(self._members))


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop in virtual time. It belongs to the thread that made it.

    Args:
        start: where its clock starts, in seconds. Not 0, so that nobody takes a time for a duration.
        hang_after: virtual seconds, more than 0. For so long without progress, and the program hangs.
        seed: what a `DeadlockError` says the seed was.
    """

    # What asyncio's `_run_once` works with.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool
    _closed = True  # until it is made: there is nothing to close after a bad argument

    def __init__(self, *, start: float = 1_000.0, hang_after: float = HANG_AFTER, seed: int | None = None) -> None:
        if not hang_after > 0:
            raise ValueError(f"hang_after is {hang_after}; it must be more than 0 seconds")
        super().__init__()
        self.start = start
        self.hang_after = hang_after
        self.seed = seed
        self._now = start
        self._foreground_at = start
        self._turns = 0
        self._turns_left = math.inf
        self._witnesses: Counter[str] = Counter()
        self._timers_made = 0
        self._tasks_made = 0
        self._births: weakref.WeakKeyDictionary[asyncio.Task[Any], Birth] = weakref.WeakKeyDictionary()
        self._thread = threading.get_ident()
        self._selector = SimpleNamespace(select=self._select)
        self._asyncgens = _AsyncGenerators()
        self._set_now(start)

    def time(self) -> float:
        """Virtual seconds. They never go back."""
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Call `callback` in the next turn."""
        if not (housekeeping.get() if context is None else context.get(housekeeping)):
            self._foreground_at = self._now
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Call `callback` when the clock shows `when`, after all that was set for the same time before."""
        self._check_closed()
        if math.isnan(when):
            raise ValueError("a timer cannot be set for NaN")
        timer = _Timer(when, callback, args, self, context)
        self._timers_made += 1
        timer.place = (when, self._timers_made)
        timer.foreground = not (housekeeping.get() if context is None else context.get(housekeeping))
        if timer.foreground:
            self._foreground_at = self._now
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """`call_soon`. From another thread it is refused, for virtual time does not wait for threads."""
        if threading.get_ident() != self._thread:
            _refuse("a callback from another thread", _INSTEAD_OF_THREADS)
        return self.call_soon(callback, *args, context=context)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Make a task. The loop remembers the order, for its reports and for `finish`."""
        # Taken before the task exists: an eager task makes others while it is made.
        self._tasks_made += 1
        sequence = self._tasks_made
        if options.get("name") is None:
            # asyncio's own numbers go on from one loop to the next, and a second run would have other names.
            options["name"] = f"Task-{sequence}"
        context: contextvars.Context | None = options.get("context")
        repeats = housekeeping.get() if context is None else context.get(housekeeping, False)
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        self._births[task] = Birth(sequence, repeats)
        return task

    def pending_tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not done, in the order of their creation."""
        return [task for task, _ in sorted(self._pending(), key=lambda entry: entry[1].sequence)]

    def finish(self) -> list[asyncio.Task[Any]]:
        """Cancel all tasks in the order of their creation and run until they are done, then close async generators.

        Returns:
            The tasks that are still not done after 1,000 turns, or wait for what cannot happen.
        """
        self._turns_left = FINISHING_TURNS_MAX
        cancelled: list[asyncio.Task[Any]] = []
        try:
            # A task that is cancelled may start others.
            while tasks := self.pending_tasks():
                cancelled += tasks
                for task in tasks:
                    task.cancel()
                self._run_until_done(tasks)
            self.run_until_complete(self.shutdown_asyncgens())
        except DeadlockError:
            pass
        finally:
            self._turns_left = math.inf
        for task in cancelled:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                message = f"task {task.get_name()} failed when it was cancelled at the end"
                self.call_exception_handler({"message": message, "exception": error, "task": task})
        return self.pending_tasks()

    def hang(self, reason: str) -> DeadlockError:
        """The error that says that the program hangs, why, and where each task stands."""
        elapsed = self._now - self.start
        seed = "" if self.seed is None else f" (seed={self.seed})"
        report = task_report(self._pending()) or "  no task is left"
        text = f"hang after {elapsed:.3f} virtual seconds{seed}: {reason}\n{report}"
        return DeadlockError(text, elapsed=elapsed, seed=self.seed)

    def _run_until_done(self, tasks: list[asyncio.Task[Any]]) -> None:
        all_done = self.create_future()
        left = len(tasks)

        def one_done(_task: asyncio.Task[Any]) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                all_done.set_result(None)

        for task in tasks:
            task.add_done_callback(one_done)
        self.run_until_complete(all_done)

    def _select(self, _timeout: float | None) -> list[Any]:
        """Let the time pass that asyncio would sleep. Called once a turn, before timers that are due become ready."""
        if self._turns_left <= 0:
            raise self.hang(f"{FINISHING_TURNS_MAX:,} turns were not enough")
        self._turns_left -= 1
        if self._ready or self._stopping:
            self._stay()
        elif not self._scheduled or (when := self._scheduled[0].when()) == math.inf:
            raise self.hang("nothing is left that could happen")
        elif when <= self._now:
            self._stay()
        else:
            self._look()
            self._turns = 0
            self._set_now(when)
        return []

    def _set_now(self, now: float) -> None:
        self._now = now
        # asyncio runs what is due before now + resolution. So that is what is due now, and nothing else.
        self._clock_resolution = math.ulp(now)

    def _stay(self) -> None:
        """Another turn at the same time."""
        self._turns += 1
        if self._turns > TURNS_MAX - WITNESSED_TURNS:
            if self._turns == TURNS_MAX - WITNESSED_TURNS + 1:
                self._witnesses.clear()
            due = [timer for timer in self._scheduled if timer.when() <= self._now and not timer.cancelled()]
            for handle in (*self._ready, *due):
                self._witnesses[callback_name(handle._callback)] += 1  # type: ignore[attr-defined]
        if self._turns >= TURNS_MAX:
            self._turns = 0
            culprits = most_frequent(self._witnesses)
            raise self.hang(f"{TURNS_MAX:,} turns, and time stands still; the last {WITNESSED_TURNS:,}:\n{culprits}")

    def _look(self) -> None:
        """Before the clock moves: does the program still make progress?"""
        if self._now - self._foreground_at < self.hang_after:
            return
        for timer in self._scheduled:
            if isinstance(timer, _Timer) and timer.foreground and timer.when() < math.inf and not timer.cancelled():
                # Hope. No need to look again at every tick of the housekeeping.
                self._foreground_at = self._now
                return
        raise self.hang(f"for {self.hang_after:g} virtual seconds only housekeeping has run")

    def _pending(self) -> list[tuple[asyncio.Task[Any], Birth]]:
        known = [(task, birth) for task, birth in self._births.items() if not task.done()]
        # A task that was made without the loop is in asyncio's set only.
        strangers = [task for task in asyncio.all_tasks(self) if task not in self._births]
        strangers.sort(key=lambda task: (len(task.get_name()), task.get_name()))
        return known + [(task, Birth(self._tasks_made + n, False)) for n, task in enumerate(strangers, 1)]

    def _check_closed(self) -> None:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")

    def _process_events(self, _events: list[Any]) -> None:
        """There are no events but callbacks and timers."""


def _refuse(what: str, instead: str) -> NoReturn:
    raise StateError(f"{what}: not in virtual time.", hint=instead)


def _refusal(name: str, instead: str) -> Callable[..., NoReturn]:
    def method(_loop: VirtualLoop, *_args: Any, **_options: Any) -> NoReturn:
        _refuse(name, instead)

    method.__name__ = name
    method.__doc__ = "Refused in virtual time."
    return method


_INSTEAD_OF_SOCKETS = (
    "There are no sockets. Give the client the cluster's world: Producer(..., environment=cluster.environment). "
    "Other code connects and listens through environment.network."
)
_INSTEAD_OF_THREADS = (
    "Nobody waits for other threads. Call the function directly, or run this program in real time: "
    "`async with Cluster(...)` without simulate."
)
_INSTEAD_OF_SYSTEM = (
    "There is no operating system. Run this program in real time: `async with Cluster(...)` without simulate."
)
_REFUSED = {
    _INSTEAD_OF_SOCKETS: (
        "create_connection create_server create_unix_connection create_unix_server create_datagram_endpoint "
        "connect_accepted_socket start_tls sendfile sock_recv sock_recv_into sock_recvfrom sock_recvfrom_into "
        "sock_sendall sock_sendto sock_sendfile sock_connect sock_accept getaddrinfo getnameinfo"
    ),
    _INSTEAD_OF_THREADS: "run_in_executor set_default_executor",
    _INSTEAD_OF_SYSTEM: (
        "add_reader remove_reader add_writer remove_writer add_signal_handler remove_signal_handler "
        "subprocess_exec subprocess_shell connect_read_pipe connect_write_pipe"
    ),
}
for _instead, _names in _REFUSED.items():
    for _name in _names.split():
        setattr(VirtualLoop, _name, _refusal(_name, _instead))
