"""Runs one test in virtual time and on real sockets, and counts what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from broker_sim.worlds.runner import run_virtual
from broker_sim.worlds.virtual_loop import VirtualLoop
from rocketmq_aio.environment import Environment

try:
    import uvloop
except ImportError:  # not on Windows
    uvloop = None

#: Every world that a test can run in. "loopback" is asyncio on real sockets.
WORLDS = ["virtual", "loopback"] + (["uvloop"] if uvloop is not None else [])


class CountingNetwork:
    """A network that knows which of its transports are still open."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.opened = 0
        self.open: list[Any] = []
        self.listeners: list[Any] = []

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Any:
        """Connect, and remember the transport."""
        transport, protocol = await self._network.connect(factory, host, port)
        self.opened += 1
        self.open.append((transport, protocol))
        return transport, protocol

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Any:
        """Listen."""
        listener = await self._network.listen(factory, host, port)
        self.listeners.append(listener)
        return listener

    def still_open(self) -> list[Any]:
        """Client connections whose transport is not gone."""
        return [protocol for _, protocol in self.open if not protocol.transport_gone]


def counting(environment: Environment) -> tuple[Environment, CountingNetwork]:
    """The same environment, with a network that counts."""
    network = CountingNetwork(environment.network)
    return msgspec.structs.replace(environment, network=network), network


def run_in(world: str, main: Callable[[Environment], Awaitable[Any]], *, seed: int = 1) -> Any:
    """Run `main(environment)` in one of the WORLDS."""
    if world == "virtual":
        return run_virtual(main, seed=seed)
    factory = uvloop.new_event_loop if world == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_await(main))


async def _await(main: Callable[[Environment], Awaitable[Any]]) -> Any:
    return await main(Environment.system())


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds, in any world: a look a turn, and in virtual time a step of the clock."""
    virtual = isinstance(asyncio.get_running_loop(), VirtualLoop)
    while not condition():
        await asyncio.sleep(0.0005 if virtual else 0)


def leftovers(network: CountingNetwork) -> dict[str, int]:
    """What a closed producer left in the running loop: tasks, timers, sockets, pending entries."""
    loop = asyncio.get_running_loop()
    gc.collect()
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    tasks = [task for task in tasks if "rocketmq_aio" in task.get_name()]
    timers = [handle for handle in getattr(loop, "_scheduled", []) if not handle.cancelled() and _ours(handle)]
    return {
        "tasks": len(tasks),
        "timers": len(timers),
        "sockets": len(network.still_open()),
        "pending": sum(protocol.pending_count for _, protocol in network.open),
    }


NOTHING = {"tasks": 0, "timers": 0, "sockets": 0, "pending": 0}


def _ours(handle: asyncio.TimerHandle) -> bool:
    return "rocketmq_aio" in repr(handle._callback) or "rocketmq_aio" in getattr(handle._callback, "__module__", "")


def open_files() -> int | None:
    """How many files this process has open, where the system can say."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None
