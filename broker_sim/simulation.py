"""Tests and scripts in virtual time, with a cluster: an hour costs milliseconds, and a hang is an error at once.

```python
@simulate(seed=7, brokers=2, topics={"T": 4})
async def test_it(cluster): ...
```

The test becomes a plain function, for any test runner and without plugins; each call has its own loop and cluster. The
plugin's fixtures are for real time.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Never, TypeVar

from broker_sim.cluster import Cluster
from broker_sim.worlds.runner import run_virtual
from broker_sim.worlds.virtual_loop import HANG_AFTER
from rocketmq_aio.environment import Environment

__all__ = ["Simulate", "simulate"]

T = TypeVar("T")

PARAMETER = "cluster"


class Simulate:
    """The type of `simulate`, which is a decorator for tests, and has `run` for scripts."""

    def __call__(
        self, *misplaced: Never, seed: int = 0, hang_after: float = HANG_AFTER, **cluster_options: Any
    ) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., T]]:
        """Make a plain function of a coroutine function that takes a `cluster`.

        The function has the other parameters of the test, so that fixtures and parameters pass through.

        Args:
            seed: what everything random is drawn from. A failure carries it as a note.
            hang_after: virtual seconds without progress after which the test hangs: a `DeadlockError`.
            cluster_options: for `Cluster`; its environment is the virtual one.

        Returns:
            The decorator. It raises `TypeError` for what is no coroutine function with a parameter `cluster`.

        Raises:
            TypeError: an argument is of the wrong type, or has no name: `@simulate` without parentheses.
            ValueError: `hang_after` is not more than 0.
        """
        if misplaced:
            raise TypeError("simulate takes arguments by name only; without any, write @simulate()")
        _check_options(seed, hang_after, cluster_options)

        def decorate(test: Callable[..., Awaitable[T]]) -> Callable[..., T]:
            signature = inspect.signature(test)
            if not inspect.iscoroutinefunction(test):
                raise TypeError(f"@simulate: {test!r} is not a coroutine function; it belongs below other decorators")
            if PARAMETER not in signature.parameters:
                raise TypeError(f"@simulate: {test.__qualname__}{signature} has no parameter {PARAMETER!r}")

            others = signature.replace(parameters=[p for p in signature.parameters.values() if p.name != PARAMETER])

            @functools.wraps(test)
            def plain(*args: Any, **kwargs: Any) -> T:
                given = others.bind(*args, **kwargs).arguments

                async def body(cluster: Cluster) -> T:
                    bound = inspect.BoundArguments(signature, OrderedDict(given, **{PARAMETER: cluster}))
                    return await test(*bound.args, **bound.kwargs)

                return self.run(body, seed=seed, hang_after=hang_after, **cluster_options)

            plain.__signature__ = others  # type: ignore[attr-defined]
            return plain

        return decorate

    def run(
        self,
        main: Callable[[Cluster], Awaitable[T]],
        *,
        seed: int = 0,
        hang_after: float = HANG_AFTER,
        **cluster_options: Any,
    ) -> T:
        """Start a cluster in virtual time, run `main(cluster)`, and stop the cluster.

        Args:
            main: a coroutine function.
            seed: what everything random is drawn from. An error carries it as a note.
            hang_after: virtual seconds without progress after which the program hangs.
            cluster_options: for `Cluster`; its environment is the virtual one.

        Returns:
            What `main` returns.

        Raises:
            DeadlockError: The program hangs. The text shows where each task stands.
            RuntimeError: A loop is running in this thread.
            TypeError: `main` is no coroutine function, or another argument is of the wrong type.
            ValueError: `hang_after` is not more than 0.
        """
        _check_options(seed, hang_after, cluster_options)
        if not callable(main):
            if inspect.iscoroutine(main):
                main.close()
            raise TypeError(f"simulate.run: give it the function, as in simulate.run(main), not {main!r}")

        async def body(environment: Environment) -> T:
            async with Cluster(environment=environment, **cluster_options) as cluster:
                awaitable = main(cluster)
                if not inspect.isawaitable(awaitable):
                    raise TypeError(f"simulate.run: {main!r} is not a coroutine function; it returned {awaitable!r}")
                return await awaitable

        return run_virtual(body, seed=seed, hang_after=hang_after)


def _check_options(seed: object, hang_after: object, cluster_options: dict[str, Any]) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"simulate: seed must be an int, not {seed!r}")
    if isinstance(hang_after, bool) or not isinstance(hang_after, int | float):
        raise TypeError(f"simulate: hang_after must be a number of seconds, not {hang_after!r}")
    if not hang_after > 0:
        raise ValueError(f"simulate: hang_after must be more than 0 seconds, not {hang_after!r}")
    if "environment" in cluster_options:
        raise TypeError("simulate makes the environment; for another one use Cluster(environment=…)")


simulate = Simulate()
"""Virtual time for tests (`@simulate(…)`) and scripts (`simulate.run(main)`)."""
