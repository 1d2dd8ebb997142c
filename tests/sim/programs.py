"""Programs for the tests of virtual time, and what runs them."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from broker_sim.worlds.hang import DeadlockError
from broker_sim.worlds.runner import run_virtual
from rocketmq_aio.environment import Environment, housekeeping_context


def run(main: Callable[[], Awaitable[Any]], **options: Any) -> Any:
    """Run a program that does not look at its environment."""
    return run_virtual(lambda _: main(), **options)


def hang(main: Callable[[], Awaitable[Any]], **options: Any) -> DeadlockError:
    """Run a program that hangs."""
    with pytest.raises(DeadlockError) as caught:
        run(main, **options)
    return caught.value


def line_of(function: Callable[..., Any], text: str) -> str:
    """How a stack names the line of `function` that holds `text`."""
    lines, first = inspect.getsourcelines(function)
    return f"line {first + next(n for n, line in enumerate(lines) if text in line)}, in {function.__name__}"


async def tick(interval: float, ticks: list[float]) -> None:
    """Something that repeats by itself."""
    while True:
        await asyncio.sleep(interval)
        ticks.append(asyncio.get_running_loop().time())


_houses: list[asyncio.Task[None]] = []
"""The loop holds its tasks weakly."""


def keep_house(interval: float = 30.0) -> list[float]:
    """Start something that repeats by itself, as housekeeping. Returns the times of its ticks."""
    ticks: list[float] = []
    loop = asyncio.get_running_loop()
    task = loop.create_task(tick(interval, ticks), context=housekeeping_context())
    _houses[:] = [task]
    return ticks


async def stuck() -> None:
    """Wait for what nobody does."""
    await asyncio.get_running_loop().create_future()  # nobody sets it


async def caller_of_stuck() -> None:
    """One call above."""
    await stuck()


class Noise(asyncio.Protocol):
    """A peer of the program below: answers after a random time, and sometimes hangs up."""

    def __init__(self, rng: random.Random, log: Callable[..., None]) -> None:
        self.rng = rng
        self.log = log
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.log("made", transport.get_extra_info("peername"))

    def data_received(self, data: bytes) -> None:
        self.log("received", data)
        assert self.transport is not None
        choice = self.rng.random()
        if choice < 0.1:
            self.transport.abort()
        elif choice < 0.2:
            self.transport.close()
        elif choice < 0.9:
            asyncio.get_running_loop().call_later(self.rng.random(), self.transport.write, data[::-1])

    def connection_lost(self, exc: Exception | None) -> None:
        self.log("lost", type(exc).__name__)


async def noisy_program(environment: Environment) -> str:
    """Sleeps, cancellations, deaths of connections and ties in time, as a hash over all that happened."""
    rng = environment.entropy("program")
    monotonic = environment.clock.monotonic
    digest = hashlib.sha256()

    def log(*event: object) -> None:
        digest.update(repr((monotonic(), *event)).encode())

    listener = await environment.network.listen(lambda: Noise(environment.entropy("server"), log), "broker-a", 0)

    async def client(number: int) -> None:
        try:
            for step in range(5):
                transport, _ = await environment.network.connect(lambda: Noise(rng, log), "broker-a", listener.port)
                assert isinstance(transport, asyncio.Transport)
                for _ in range(3):
                    transport.write(f"{number}/{step}".encode())
                    await asyncio.sleep(rng.choice([0.1, 0.2, rng.random()]))
                if rng.random() < 0.5:
                    transport.close()
        finally:
            log("client ends", number)

    clients = [asyncio.create_task(client(number)) for number in range(30)]
    for task in rng.sample(clients, 10):
        await asyncio.sleep(rng.random() / 10)
        task.cancel()
        log("cancelled", task.get_name())
    done, _ = await asyncio.wait(clients, timeout=60)
    log("done", len(done))
    return digest.hexdigest()
