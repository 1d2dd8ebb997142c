"""An event loop in a thread of its own, and calls into it from any other thread.

Source: none in Java.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from rocketmq_aio.errors import ClosedError, StateError

__all__ = ["LoopThread"]

T = TypeVar("T")

#: Seconds that a call into the thread may take.
CALL_TIMEOUT = 10.0


class LoopThread:
    """A daemon thread that runs a loop until it is closed.

    Args:
        name: the thread's name.

    Raises:
        StateError: there can be no thread, or no loop in it.
    """

    def __init__(self, name: str) -> None:
        try:
            # Here, not in the thread: whoever asks for the thread is told at once why there is none.
            self._loop = asyncio.new_event_loop()
        except OSError as error:
            raise StateError(
                f"The cluster's thread cannot have an event loop: {error}.",
                hint="It needs a few file descriptors, and so do the servers: see `ulimit -n`.",
            ) from error
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._loop.close()
            raise StateError(f"The cluster's thread cannot start: {error}.") from error
        self._ready.wait()

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._ready.set()
        await self._stopping.wait()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return threading.current_thread() is self._thread

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a plain function in the thread and wait for it. In the thread itself it is simply called.

        Raises:
            StateError: it took more than ten seconds: something holds the loop. What has not begun by then never does;
                what has gets ten seconds more.
            ClosedError: the thread has ended.
        """
        if self.is_current:
            return function(*args)
        claim = threading.Lock()  # whoever gets it decides: the thread calls, or the caller gives up

        async def run() -> T:
            if not claim.acquire(blocking=False):
                raise ClosedError("Nobody waits for it any more.")
            return function(*args)

        return self.run(run(), CALL_TIMEOUT, claim)

    def run(
        self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None, claim: threading.Lock | None = None
    ) -> T:
        """Run a coroutine in the thread and wait for it.

        Args:
            coroutine: what to run.
            timeout: seconds; None waits for as long as it takes.
            claim: if given, the coroutine takes it when it begins; if that has not happened in time, it is taken here.

        Raises:
            StateError: it did not end in time; or the caller is in the thread itself, which would wait for itself.
            ClosedError: the thread has ended.
        """
        if self.is_current:
            coroutine.close()
            raise StateError("This would wait for its own thread.", hint="Call it from another thread.")
        try:
            future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise ClosedError("The cluster's thread has ended.") from None
        step = CALL_TIMEOUT if timeout is None else timeout
        while True:
            try:
                return future.result(step)
            except CancelledError:
                raise ClosedError("The cluster was closed meanwhile.") from None
            except TimeoutError:
                if future.done():
                    raise  # the call's own
                if not self._thread.is_alive():  # it ended between taking the call and running it
                    raise ClosedError("The cluster's thread has ended.") from None
                if timeout is None:
                    continue
                if claim is not None and not claim.acquire(blocking=False):
                    claim = None  # it has begun: what it does must not be called a failure too early
                    continue
                future.cancel()
                raise StateError(
                    f"The cluster's thread did not answer within {timeout:g} s.",
                    hint="Does a function that was given to the cluster block its loop?",
                ) from None

    def close(self) -> None:
        """End the loop and the thread. Idempotent."""
        if self._thread.is_alive():
            try:
                self._loop.call_soon_threadsafe(self._stopping.set)
            except RuntimeError:  # it has ended by itself
                pass
            if not self.is_current:
                self._thread.join(CALL_TIMEOUT)
