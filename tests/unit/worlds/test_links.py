"""Rules of simulated links: when what is written arrives."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_sim.worlds.links import Latency, Link
from rocketmq_aio.errors import ConfigError


def no_draw() -> float:
    raise AssertionError("a link without jitter draws nothing")


def test_latency_delays_everything_by_the_same_time() -> None:
    """Without jitter each write arrives after the latency, and no dice are thrown."""
    link = Link(Latency(0.5), no_draw)
    assert [link.arrival(now) for now in (10.0, 10.0, 11.0)] == [10.5, 10.5, 11.5]


def test_jitter_adds_a_part_of_itself() -> None:
    """Each write draws once, and is late by that part of the jitter."""
    draws = iter([0.0, 0.5, 0.75])
    link = Link(Latency(1.0, jitter=4.0), lambda: next(draws))
    assert [link.arrival(now) for now in (0.0, 10.0, 20.0)] == [1.0, 13.0, 24.0]


def test_a_shorter_latency_does_not_overtake() -> None:
    """What is written after the latency has shrunk waits for what was written before."""
    link = Link(Latency(5.0), no_draw)
    assert link.arrival(0.0) == 5.0
    link.latency = Latency(0.0)
    assert [link.arrival(now) for now in (1.0, 4.0, 5.0, 6.0)] == [5.0, 5.0, 5.0, 6.0]


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5), st.floats(0, 5)), min_size=1),
    st.integers(0, 1000),
)
def test_arrivals_keep_the_order(writes: list[tuple[float, float, float]], seed: int) -> None:
    """Whatever the latencies, arrivals never go back, and nothing arrives before it is written."""
    link = Link(Latency(0.0), random.Random(seed).random)
    now, last = 0.0, -math.inf
    for pause, seconds, jitter in writes:
        now += pause
        link.latency = Latency(seconds, jitter)
        due = link.arrival(now)
        assert due >= last
        assert due >= now + seconds or due == last
        last = due


@pytest.mark.parametrize("values", [(-0.1, 0.0), (0.0, -1.0), (math.nan, 0.0), (0.0, math.inf)])
def test_impossible_latencies_are_refused(values: tuple[float, float]) -> None:
    """A negative or infinite delay cannot be made."""
    with pytest.raises(ConfigError, match="must be 0 or more"):
        Latency(*values)
