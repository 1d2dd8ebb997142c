"""What a warm send costs in Python calls, writes and timers. Counts need no quiet machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from benchmarks import counts
from benchmarks.counts import Counts, count_sends
from benchmarks.machine import HAS_UVLOOP
from rocketmq_aio import send

pytestmark = [
    pytest.mark.skipif(not HAS_UVLOOP, reason="the counts are those of uvloop, which is not installed"),
    pytest.mark.skipif(sys.getprofile() is not None, reason="another profile function is at work"),
]

#: Timers may follow each other after 50 ms, and uvloop rounds to milliseconds.
TIMERS_A_SECOND = 1 / 0.049


@pytest.fixture(scope="module")
def many() -> Iterator[Counts]:
    """Counts at 512 in flight."""
    yield count_sends(512, 10_240)


@pytest.fixture(scope="module")
def one() -> Iterator[Counts]:
    """Counts at one in flight."""
    yield count_sends(1, 500)


def explain(found: Counts) -> str:
    """Which function was called how often for a send."""
    ranked = sorted(found.calls.items(), key=lambda item: -item[1])
    return "\n".join(f"{count / found.messages:8.3f} {name}" for name, count in ranked)


def calls_of_a_send(found: Counts) -> float:
    """Without the looks at deadlines: they belong to a connection's time, and a slow machine has more of it."""
    scans = sum(count for name, count in found.calls.items() if name.startswith("DeadlineScan."))
    return found.calls_per_message - scans / found.messages


def test_calls_at_512_in_flight(many: Counts) -> None:
    """At 512 in flight a send takes at most 8 Python calls, from the making of the message to its result."""
    assert calls_of_a_send(many) <= 8, explain(many)


def test_calls_at_one_in_flight(one: Counts) -> None:
    """At one in flight, where each message has a read and a write of its own, a send takes at most 11."""
    assert calls_of_a_send(one) <= 11, explain(one)


def test_sends_take_the_warm_path(many: Counts, one: Counts) -> None:
    """All that was counted is the warm path: one call and one resumption of `send` each, and never the slow path."""
    for found in (many, one):
        assert found.calls["SendPath.send"] == 2 * found.messages
        assert not [name for name in found.calls if "slow" in name], explain(found)


def test_writes_are_joined(many: Counts) -> None:
    """At 512 in flight at most 3 of 100 messages take a write of their own."""
    assert many.writes_per_message <= 0.03


def test_one_in_flight_is_one_write(one: Counts) -> None:
    """At one in flight a message is one write: neither split nor delayed for company."""
    assert one.writes == one.messages


@pytest.mark.parametrize("width", ["many", "one"])
def test_no_timer_belongs_to_a_message(width: str, request: pytest.FixtureRequest) -> None:
    """Timers are made by connections, at most 20 a second each, however many messages they carry."""
    found: Counts = request.getfixturevalue(width)
    assert found.timers <= found.connections * (found.seconds * TIMERS_A_SECOND + 1)


def test_a_further_call_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The count can fail: a coroutine layer around `send`, in the package's code, costs two calls a message."""
    source = "async def layered(self, message):\n    return await plain(self, message)\n"
    names = {"plain": send.SendPath.send}
    exec(compile(source, f"{counts.PACKAGE}/layered.py", "exec"), names)
    plain = count_sends(1, 100)
    monkeypatch.setattr(counts.Producer, "send", names["layered"])
    layered = count_sends(1, 100)
    assert layered.calls["layered"] == 200
    assert layered.calls["SendPath.send"] == plain.calls["SendPath.send"] == 200
