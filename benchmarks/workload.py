"""The measured programs: awaited sends, the raw echo with the same frames, and the bare client between the two.

All do the same in the same way: as many tasks as messages are in flight, each of which awaits one after the other.
What was acknowledged is kept, and compared with what the servers have once the clocks have stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from statistics import median
from typing import Any

import msgspec

from benchmarks.bare import BareClient, BareResult
from benchmarks.echo import EchoClient
from benchmarks.servers import HOST, ServersLike
from benchmarks.verify import differences, summary
from rocketmq_aio import Message, Producer, SendResult

__all__ = [
    "TOPIC", "Round", "Sample", "WrongError", "alternate", "bare_round", "echo_round", "make_bodies", "send_round",
]

TOPIC = "BenchmarkTopic"
QUEUES = 8
#: So many different bodies: a message that is stored with the body of another is noticed.
BODIES = 1024
#: Messages before the measured ones, as a part of them.
WARM_UP = 5


class WrongError(Exception):
    """A message was not acknowledged, or what is stored is not what was acknowledged: there is no result."""


class Sample(msgspec.Struct, frozen=True):
    """One round of one program.

    Attributes:
        messages: how many.
        seconds: how long they took.
        client_cpu: seconds of processor time of the client's process.
        server_cpu: the same of the servers' process; None if it is the client's.
        p50: the median latency in seconds; None if latencies were not taken.
        p99: the 99th percentile.
    """

    messages: int
    seconds: float
    client_cpu: float
    server_cpu: float | None
    p50: float | None = None
    p99: float | None = None

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


class Round(msgspec.Struct, frozen=True):
    """One round: all programs, one right after the other."""

    echo: Sample
    bare: Sample
    send: Sample


def make_bodies(size: int) -> list[bytes]:
    """Different bodies of `size` bytes."""
    return [f"{number:08d} ".encode().ljust(size, b"-")[:size] for number in range(BODIES)]


async def alternate(
    servers: ServersLike,
    *,
    rounds: int,
    messages: int,
    in_flight: int,
    bodies: list[bytes],
    exchange: tuple[bytes, bytes],
) -> list[Round]:
    """Measure the programs in turn.

    Args:
        servers: the other end.
        rounds: how many.
        messages: in each round of each program.
        in_flight: tasks that await one message after the other. With one, latencies are taken.
        bodies: what is sent.
        exchange: request and reply for the echo.

    Raises:
        WrongError: a message is missing, or is not what it should be.
    """
    request, reply = exchange
    port = await servers.open_echo(reply)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(EchoClient, HOST, port)
    done = []
    try:
        for _ in range(rounds):
            echo = await echo_round(servers, client, messages, in_flight, request, len(reply))
            bare = await bare_round(servers, messages, in_flight, bodies)
            send = await send_round(servers, messages, in_flight, bodies)
            done.append(Round(echo, bare, send))
    finally:
        client.close()
        await asyncio.sleep(0)
    return done


async def echo_round(
    servers: ServersLike, client: EchoClient, messages: int, in_flight: int, request: bytes, reply_bytes: int
) -> Sample:
    """One round of the echo.

    Raises:
        WrongError: the answers are not as many bytes as they must be.
    """
    times: list[int] = []

    async def ask(numbers: Iterator[int]) -> None:
        for _ in numbers:
            await client.request(request)

    async def ask_timed(numbers: Iterator[int]) -> None:
        clock = time.perf_counter_ns
        for _ in numbers:
            asked = clock()
            await client.request(request)
            times.append(clock() - asked)

    task = ask_timed if in_flight == 1 else ask
    warm_up = messages // WARM_UP
    numbers = iter(range(warm_up))
    await _together([task(numbers) for _ in range(in_flight)])
    times.clear()
    received = client.received
    numbers = iter(range(messages))
    sample = await _measure(servers, messages, [task(numbers) for _ in range(in_flight)])
    if client.received - received != messages * reply_bytes:
        raise WrongError(f"The echo answered {client.received - received:,} bytes to {messages:,} messages.")
    return _with_latencies(sample, times)


async def bare_round(servers: ServersLike, messages: int, in_flight: int, bodies: list[bytes]) -> Sample:
    """One round of the bare client.

    Raises:
        WrongError: what is stored is not what was acknowledged.
    """
    warm_up = messages // WARM_UP
    results: list[BareResult | None] = [None] * (warm_up + messages)
    times: list[int] = []
    count = len(bodies)

    async def send(numbers: Iterator[int]) -> None:
        for number in numbers:
            results[number] = await client.send(bodies[number % count])

    async def send_timed(numbers: Iterator[int]) -> None:
        clock = time.perf_counter_ns
        for number in numbers:
            asked = clock()
            results[number] = await client.send(bodies[number % count])
            times.append(clock() - asked)

    task = send_timed if in_flight == 1 else send
    port = await servers.open_bare(QUEUES)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: BareClient(TOPIC, QUEUES), HOST, port)
    try:
        numbers = iter(range(warm_up))
        await _together([task(numbers) for _ in range(in_flight)])
        times.clear()
        numbers = iter(range(warm_up, warm_up + messages))
        sample = await _measure(servers, messages, [task(numbers) for _ in range(in_flight)])
    finally:
        client.close()
    stored = await servers.bare_bodies()
    acknowledged = {
        (result.queue_id, result.queue_offset): bodies[number % count]
        for number, result in enumerate(results) if result is not None
    }
    there = {(queue_id, offset): body for queue_id, log in enumerate(stored) for offset, body in enumerate(log)}
    if len(acknowledged) != len(results) or acknowledged != there:
        raise WrongError("What the bare server stored is not what it acknowledged.")
    return _with_latencies(sample, times)


async def send_round(servers: ServersLike, messages: int, in_flight: int, bodies: list[bytes]) -> Sample:
    """One round of sends, to a cluster and with a producer of its own.

    Raises:
        WrongError: what is stored is not what was acknowledged.
    """
    warm_up = messages // WARM_UP
    results: list[SendResult | None] = [None] * (warm_up + messages)
    times: list[int] = []
    count = len(bodies)

    async def send(numbers: Iterator[int]) -> None:
        for number in numbers:
            results[number] = await producer.send(Message(TOPIC, bodies[number % count]))

    async def send_timed(numbers: Iterator[int]) -> None:
        clock = time.perf_counter_ns
        for number in numbers:
            asked = clock()
            results[number] = await producer.send(Message(TOPIC, bodies[number % count]))
            times.append(clock() - asked)

    task = send_timed if in_flight == 1 else send
    namesrv = await servers.open_cluster(1, {TOPIC: QUEUES})
    try:
        async with Producer("benchmark", namesrv=namesrv, topics=[TOPIC]) as producer:
            numbers = iter(range(warm_up))
            await _together([task(numbers) for _ in range(in_flight)])
            times.clear()
            numbers = iter(range(warm_up, warm_up + messages))
            sample = await _measure(servers, messages, [task(numbers) for _ in range(in_flight)])
        stored = await servers.stored(TOPIC)
    finally:
        await servers.close_cluster()
    acknowledged = [
        (result, bodies[number % count]) for number, result in enumerate(results) if result is not None and result.ok
    ]
    if len(acknowledged) != len(results):
        raise WrongError(f"{len(results) - len(acknowledged):,} of {len(results):,} messages were not acknowledged.")
    found = differences(acknowledged, stored)
    if found:
        raise WrongError(f"{len(found):,} differences between acknowledged and stored:\n{summary(found)}")
    return _with_latencies(sample, times)


async def _together(coroutines: list[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for coroutine in coroutines:
            group.create_task(coroutine)


async def _measure(servers: ServersLike, messages: int, coroutines: list[Coroutine[Any, Any, None]]) -> Sample:
    server_started = await servers.cpu()
    cpu_started = time.process_time()
    started = time.perf_counter()
    await _together(coroutines)
    seconds = time.perf_counter() - started
    client_cpu = time.process_time() - cpu_started
    server_cpu = await servers.cpu() - server_started
    return Sample(messages, seconds, client_cpu, None if servers.shared else server_cpu)


def _with_latencies(sample: Sample, times: list[int]) -> Sample:
    if not times:
        return sample
    times.sort()
    p99 = times[min(len(times) - 1, len(times) * 99 // 100)]
    return msgspec.structs.replace(sample, p50=median(times) / 1e9, p99=p99 / 1e9)
