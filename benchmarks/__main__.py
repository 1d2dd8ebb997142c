"""`python -m benchmarks`: awaited sends against a raw echo and a bare client, round by round in one run."""

from __future__ import annotations

import sys

import click

from benchmarks.counts import count_sends, record_exchange
from benchmarks.machine import HAS_UVLOOP, run, versions
from benchmarks.report import Series, counts_table, goals, make_console, series_table
from benchmarks.servers import ServerError, ServerProcess, Servers
from benchmarks.workload import WrongError, alternate, make_bodies

LATENCY_PART = 10
COUNTED = {1: 2_000, 512: 20_480}


@click.command()
@click.option("--quick", is_flag=True, help="Three rounds of a fifth of the messages: a look, not a measurement.")
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(1, 1_000), help="Rounds of each setting.")
@click.option(
    "--messages",
    default=50_000,
    show_default=True,
    type=click.IntRange(100, 1_000_000),
    help="Messages of a round; a tenth of them with one in flight.",
)
@click.option(
    "--in-flight",
    "widths",
    multiple=True,
    default=(1, 512),
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Messages at a time. May be given several times.",
)
@click.option("--body", default=1024, show_default=True, type=click.IntRange(1, 1_000_000), help="Bytes of a body.")
@click.option(
    "--processes",
    type=click.Choice(["1", "2", "both"]),
    default="both",
    show_default=True,
    help="1: both ends on one loop. 2: the servers in a process of their own.",
)
def main(quick: bool, rounds: int, messages: int, widths: tuple[int, ...], body: int, processes: str) -> None:
    """Measure awaited sends against a raw echo of the same frames, and against a client that does nothing else.

    The programs take turns, round by round; a ratio is the median of the rounds' ratios. Figures in microseconds
    depend on the machine and on what else it does: ratios and counts are what holds. It fails, with exit code 1, if a
    message was not acknowledged or is not in the store as it was acknowledged.
    """
    console = make_console()
    if quick:
        rounds, messages = 3, max(messages // 5, 100)
    console.print(versions())
    if not HAS_UVLOOP:
        console.print("uvloop is not installed: both ends run on asyncio's own loop, which costs more.")
    try:
        exchange = run(record_exchange(make_bodies(body)[0]))
        console.print(f"frames: {len(exchange[0]):,} bytes of request, {len(exchange[1]):,} bytes of reply\n")
        all_series = []
        for count in (1, 2) if processes == "both" else (int(processes),):
            for in_flight in widths:
                number = max(messages // LATENCY_PART, 10) if in_flight == 1 else messages
                series = measure(count, in_flight, rounds, number, body, exchange)
                all_series.append(series)
                console.print(series_table(series))
                console.print()
        all_counts = [count_sends(in_flight, number) for in_flight, number in COUNTED.items()]
    except (WrongError, ServerError) as error:
        console.print(f"[bold red]No result:[/] {error}")
        sys.exit(1)
    console.print(counts_table(all_counts))
    console.print()
    for goal in goals(all_series, all_counts):
        mark = "[green]met[/]   " if goal.met else "[red]missed[/]"
        console.print(f"{mark} {goal.name}: {goal.value:.2f}{goal.unit} (goal: at most {goal.limit:g}{goal.unit})")
    console.print("Every message was acknowledged, and stored as it was acknowledged.")


def measure(
    processes: int, in_flight: int, rounds: int, messages: int, body: int, exchange: tuple[bytes, bytes]
) -> Series:
    """All rounds of one setting."""
    bodies = make_bodies(body)

    async def on_one_loop() -> Series:
        async with Servers() as servers:
            done = await alternate(
                servers, rounds=rounds, messages=messages, in_flight=in_flight, bodies=bodies, exchange=exchange
            )
        return Series(processes, in_flight, body, done)

    async def between_processes(servers: ServerProcess) -> Series:
        done = await alternate(
            servers, rounds=rounds, messages=messages, in_flight=in_flight, bodies=bodies, exchange=exchange
        )
        return Series(processes, in_flight, body, done)

    if processes == 1:
        return run(on_one_loop())
    with ServerProcess() as servers:
        return run(between_processes(servers))


if __name__ == "__main__":
    main()
