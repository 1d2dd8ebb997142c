"""`make demo`: a producer and three simulated brokers on real sockets, and whether everything is where it should be.

The brokers run in a process of their own. Every message is read back from them and compared with its acknowledgement;
any difference ends the demo with exit code 1.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.machine import HAS_UVLOOP, run
from benchmarks.report import make_console
from benchmarks.servers import ServerError, ServerProcess
from benchmarks.verify import differences, summary
from rocketmq_aio import Message, Producer, RocketMQError, SendResult

__all__ = ["Delivery", "broker_table", "main"]

TOPIC = "DemoTopic"
BROKERS = 3
QUEUES = 4
REFRESH = 0.1


class Delivery(msgspec.Struct, frozen=True):
    """One acknowledged message: its result, its body, and how long the caller waited for it."""

    result: SendResult
    body: bytes
    seconds: float


@click.command()
@click.option(
    "--messages", default=30_000, show_default=True, type=click.IntRange(1, 1_000_000), help="Messages to send."
)
@click.option("--in-flight", default=256, show_default=True, type=click.IntRange(1, 10_000), help="Messages at a time.")
def main(messages: int, in_flight: int) -> None:
    """Send messages to three simulated brokers, read everything back, and compare."""
    console = make_console()
    loop = "uvloop" if HAS_UVLOOP else "asyncio's own loop (uvloop is not installed)"
    console.print(
        f"1 name server and {BROKERS} brokers in a process of their own, "
        f"{messages:,} awaited sends, {in_flight} in flight, on {loop}"
    )
    try:
        with ServerProcess() as servers:
            found = run(demonstrate(console, servers, messages, in_flight))
    except (RocketMQError, ServerError) as error:
        console.print(f"[bold red]The demo failed:[/] {error}")
        sys.exit(1)
    if found:
        console.print(summary(found))
    console.print(f"[bold]{len(found):,} differences[/] between acknowledged and stored")
    sys.exit(1 if found else 0)


async def demonstrate(console: Console, servers: ServerProcess, messages: int, in_flight: int) -> list[str]:
    """Send, print what came of it, and return what differs."""
    namesrv = await servers.open_cluster(BROKERS, {TOPIC: QUEUES})
    async with Producer("demo", namesrv=namesrv, topics=[TOPIC]) as producer:
        started = time.perf_counter()
        deliveries = await send_all(console, producer, messages, in_flight)
        seconds = time.perf_counter() - started
    console.print(broker_table(deliveries))
    console.print(f"{len(deliveries):,} acknowledged in {seconds:.2f} s: {len(deliveries) / seconds:,.0f} messages/s")
    stored = await servers.stored(TOPIC)
    console.print(f"{len(stored):,} read back: id, body, queue and offset of each compared with its acknowledgement")
    return differences([(delivery.result, delivery.body) for delivery in deliveries], stored)


async def send_all(console: Console, producer: Producer, messages: int, in_flight: int) -> list[Delivery]:
    """Send all messages under a progress bar."""
    deliveries: list[Delivery] = []

    async def send(numbers: Iterator[int]) -> None:
        clock = time.perf_counter
        for number in numbers:
            body = f"message {number:,} of {messages:,}".encode()
            asked = clock()
            result = await producer.send(Message(TOPIC, body))
            deliveries.append(Delivery(result, body, clock() - asked))

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal) as progress:
        bar = progress.add_task("sending", total=messages, rate=0)
        started = time.perf_counter()

        def show() -> None:
            rate = len(deliveries) / max(time.perf_counter() - started, 1e-9)
            progress.update(bar, completed=len(deliveries), rate=rate, refresh=True)

        async def keep_showing() -> None:
            while True:
                await asyncio.sleep(REFRESH)
                show()

        showing = asyncio.create_task(keep_showing())
        numbers = iter(range(messages))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(in_flight):
                    group.create_task(send(numbers))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        finally:
            showing.cancel()
        show()
    return deliveries


def broker_table(deliveries: Sequence[Delivery]) -> Table:
    """For each broker: how many messages it took, in how many queues, and how long the caller waited."""
    table = Table()
    table.add_column("broker")
    for heading in ("sent", "queues", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    by_broker: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        by_broker.setdefault(delivery.result.queue.broker_name, []).append(delivery)
    for name, own in sorted(by_broker.items()):
        waits = sorted(delivery.seconds for delivery in own)
        queues = {delivery.result.queue.queue_id for delivery in own}
        table.add_row(
            name,
            f"{len(own):,}",
            f"{len(queues)}",
            f"{waits[len(waits) // 2] * 1e3:.2f}",
            f"{waits[len(waits) * 99 // 100] * 1e3:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
