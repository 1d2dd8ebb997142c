"""Samples and counts as tables and lines of text. This file measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Literal

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.counts import Counts
from benchmarks.workload import Round, Sample

__all__ = ["Goal", "Series", "counts_table", "goals", "make_console", "series_table", "spread"]

PLAIN_WIDTH = 120


class Series(msgspec.Struct, frozen=True):
    """All rounds of one setting.

    Attributes:
        processes: 1 if both ends share a loop, 2 if the servers have a process of their own.
        in_flight: messages at a time.
        body_bytes: the size of a body.
        rounds: what was measured.
    """

    processes: int
    in_flight: int
    body_bytes: int
    rounds: Sequence[Round]

    def ratios(self, value: Callable[[Sample], float | None], *, to: Literal["echo", "bare"] = "echo") -> list[float]:
        """Send to another program, for each round in which both have the value, and the other's is not zero.

        Args:
            value: what is compared.
            to: the other program.
        """
        others = [one.echo if to == "echo" else one.bare for one in self.rounds]
        found = [(value(one.send), value(other)) for one, other in zip(self.rounds, others, strict=True)]
        return [send / other for send, other in found if send is not None and other]


class Goal(msgspec.Struct, frozen=True):
    """A figure, and what it is meant to be.

    Attributes:
        name: what is measured.
        value: the figure.
        limit: the largest figure that is good enough.
        unit: of both.
    """

    name: str
    value: float
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure is good enough."""
        return self.value <= self.limit


def make_console() -> Console:
    """Where everything is printed. Without a terminal it is as wide as the tables are."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and in brackets the smallest and the largest."""
    return f"{median(values):,.{digits}f} [{min(values):,.{digits}f}..{max(values):,.{digits}f}]"


def series_table(series: Series) -> Table:
    """All programs, and the ratios of the send to the others: median, smallest and largest of the rounds."""
    where = "both ends on one loop" if series.processes == 1 else "two processes"
    first = series.rounds[0].send
    table = Table(
        title=f"{series.in_flight} in flight, {series.body_bytes:,} bytes, {where}: "
        f"{len(series.rounds)} rounds of {first.messages:,} messages",
        title_justify="left",
    )
    table.add_column("")
    for heading in ("messages/s", "p50 µs", "p99 µs"):
        table.add_column(heading, justify="right")
    headings = ["CPU µs, both ends"] if series.processes == 1 else ["client CPU µs", "server CPU µs"]
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, samples in (
        ("raw echo", [one.echo for one in series.rounds]),
        ("bare client", [one.bare for one in series.rounds]),
        ("send", [one.send for one in series.rounds]),
    ):
        table.add_row(name, *(_cell(column, samples) for column in _columns(series)))
    _add_ratios(table, "send / raw", series, "echo")
    _add_ratios(table, "send / bare", series, "bare")
    return table


def _add_ratios(table: Table, name: str, series: Series, to: Literal["echo", "bare"]) -> None:
    ratios = [spread(found) if (found := series.ratios(value, to=to)) else "" for value, _ in _columns(series)]
    table.add_row(name, *ratios, style="bold")


Column = tuple[Callable[[Sample], float | None], int]


def _columns(series: Series) -> list[Column]:
    columns: list[Column] = [
        (lambda sample: sample.rate, 0),
        (lambda sample: None if sample.p50 is None else sample.p50 * 1e6, 1),
        (lambda sample: None if sample.p99 is None else sample.p99 * 1e6, 1),
        (lambda sample: sample.client_cpu / sample.messages * 1e6, 2),
    ]
    if series.processes == 2:
        columns.append((lambda sample: (sample.server_cpu or 0.0) / sample.messages * 1e6, 2))
    return columns


def _cell(column: Column, samples: Sequence[Sample]) -> str:
    value, digits = column
    values = [figure for sample in samples if (figure := value(sample)) is not None]
    return spread(values, digits) if values else ""


def counts_table(all_counts: Sequence[Counts]) -> Table:
    """What a send costs in countable things."""
    table = Table(title="Counted, per awaited send", title_justify="left")
    for heading in ("in flight", "messages", "Python calls", "writes", "timers", "timers a second and connection"):
        table.add_column(heading, justify="right")
    for counts in all_counts:
        table.add_row(
            f"{counts.in_flight}",
            f"{counts.messages:,}",
            f"{counts.calls_per_message:.2f}",
            f"{counts.writes_per_message:.4f}",
            f"{counts.timers_per_message:.4f}",
            f"{counts.timers / counts.seconds / counts.connections:.1f}",
        )
    return table


def goals(all_series: Sequence[Series], all_counts: Sequence[Counts]) -> list[Goal]:
    """The figures that have a goal, of those that were measured."""
    found = []
    for series in all_series:
        if series.body_bytes != 1024:
            continue
        if series.processes == 2 and series.in_flight == 512:
            cpu = median(one.send.client_cpu / one.send.messages for one in series.rounds)
            found.append(Goal("client CPU of a send, 512 in flight", cpu * 1e6, 5.0, " µs"))
        if series.processes == 1 and series.in_flight == 1:
            ratio = median(series.ratios(lambda sample: sample.p50))
            found.append(Goal("p50 of a send, one in flight on one loop", ratio, 1.9, " × raw echo"))
    for counts in all_counts:
        if counts.in_flight == 512:
            found.append(Goal("Python calls of a send, 512 in flight", counts.calls_per_message, 8))
            found.append(Goal("writes of a send, 512 in flight", counts.writes_per_message, 0.03))
        if counts.in_flight == 1:
            found.append(Goal("Python calls of a send, one in flight", counts.calls_per_message, 11))
    return found
