"""The benchmarks notice what would make their figures worthless, and run in small."""

from __future__ import annotations

import asyncio
import re

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import demo, workload
from benchmarks.counts import Counts, record_exchange
from benchmarks.echo import EchoClient
from benchmarks.machine import run, versions
from benchmarks.report import Goal, Series, goals, spread
from benchmarks.servers import HOST, ServerError, ServerProcess, Servers
from benchmarks.verify import Stored, differences, stored_of, summary
from benchmarks.workload import Round, Sample, WrongError, bare_round, echo_round, make_bodies, send_round
from broker_sim import Cluster
from rocketmq_aio import Message, MessageQueue, Producer, SendResult, SendStatus


def acknowledged(message_id: str, queue_id: int, offset: int, body: bytes = b"body") -> tuple[SendResult, bytes]:
    """A result that names this place, and the body that was sent."""
    queue = MessageQueue("T", "broker-a", queue_id)
    result = SendResult(SendStatus.SEND_OK, message_id, "", queue, offset, "", "", "DefaultRegion", 1, 0.001)
    return result, body


def stored(message_id: str, queue_id: int, offset: int, body: bytes = b"body") -> Stored:
    """A stored message."""
    return Stored(message_id, "broker-a", queue_id, offset, body)


def test_equal_is_no_difference() -> None:
    """What is stored as it was acknowledged, in any order, is no difference."""
    assert differences([acknowledged("B", 1, 0), acknowledged("A", 0, 0)], [stored("A", 0, 0), stored("B", 1, 0)]) == []


@pytest.mark.parametrize(
    ("there", "text"),
    [
        pytest.param([], "A was acknowledged and is not stored", id="missing"),
        pytest.param([stored("A", 0, 0), stored("A", 0, 1)], "A is stored 2 times", id="twice"),
        pytest.param([stored("A", 0, 0), stored("B", 0, 1)], "B is stored and was never acknowledged", id="foreign"),
        pytest.param([stored("A", 0, 0, b"other")], "with another body", id="body"),
        pytest.param([stored("A", 1, 0)], "is stored at broker-a queue 1 offset 0", id="queue"),
        pytest.param([stored("A", 0, 1)], "is stored at broker-a queue 0 offset 1", id="offset"),
        pytest.param([stored("A", 0, 1)], "not the offsets 0 to 0", id="gap"),
        pytest.param([Stored("A", "broker-b", 0, 0, b"body")], "is stored at broker-b", id="broker"),
    ],
)
def test_difference_is_named(there: list[Stored], text: str) -> None:
    """Whatever the store has otherwise than acknowledged is a line of its own that says what and where."""
    assert any(text in line for line in differences([acknowledged("A", 0, 0)], there))


def test_one_result_twice_is_a_difference() -> None:
    """Two acknowledgements of one message are noticed, though the store has it."""
    assert len(differences([acknowledged("A", 0, 0)] * 2, [stored("A", 0, 0)])) == 1


def test_summary_is_short() -> None:
    """Thousands of differences are told in a few lines, with their number."""
    text = summary([f"line {number}" for number in range(1_000)])
    assert text.startswith("line 0\n") and text.endswith("… and 990 more")
    assert summary(["one"]) == "one"


def test_store_of_a_cluster_is_read_back() -> None:
    """`stored_of` says of a cluster's messages what their acknowledgements say."""

    async def main() -> None:
        async with Cluster(topics={"T": 2}) as cluster:
            async with Producer("g", namesrv=cluster.namesrv) as producer:
                results = [(await producer.send(Message("T", body)), body) for body in (b"x", b"y", b"z")]
            assert differences(results, stored_of(cluster.messages("T"))) == []
            assert len(differences(results[1:], stored_of(cluster.messages("T")))) == 1

    run(main())


def test_recorded_frames_are_a_send_and_its_answer() -> None:
    """The echo's frames are those that a real send writes and reads, whole, and nothing else."""
    body = make_bodies(100)[0]
    request, reply = run(record_exchange(body))
    for frame in (request, reply):
        assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert request.endswith(body) and b'{"code":310,' in request
    assert b'{"code":0,' in reply and b'"queueOffset":"0"' in reply


def test_bodies_differ() -> None:
    """No two bodies are equal, and each has the size that was asked for."""
    bodies = make_bodies(64)
    assert len(set(bodies)) == len(bodies) == workload.BODIES
    assert {len(body) for body in bodies} == {64}


@pytest.mark.parametrize("in_flight", [1, 16])
def test_echo_round(in_flight: int) -> None:
    """A round of the echo has all its answers; latencies are taken with one in flight only."""

    async def main(reply: bytes, counted_bytes: int) -> Sample:
        async with Servers() as servers:
            port = await servers.open_echo(reply)
            _, client = await asyncio.get_running_loop().create_connection(EchoClient, HOST, port)
            try:
                return await echo_round(servers, client, 100, in_flight, b"\0\0\0\x05hello", counted_bytes)
            finally:
                client.close()

    sample = run(main(b"\0\0\0\x02ok", 6))
    assert sample.messages == 100 and sample.server_cpu is None
    assert (sample.p50 is not None) == (in_flight == 1)
    with pytest.raises(WrongError, match="The echo answered 600 bytes"):
        run(main(b"\0\0\0\x02ok", 7))


def test_send_round_fails_on_a_lost_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round whose store lacks a message is an error and not a figure."""
    bodies = make_bodies(32)

    async def main() -> Sample:
        async with Servers() as servers:
            return await send_round(servers, 100, 8, bodies)

    assert run(main()).messages == 100
    monkeypatch.setattr(workload, "differences", lambda results, there: differences(results, there[1:]))
    with pytest.raises(WrongError, match="was acknowledged and is not stored"):
        run(main())


def test_server_process_reports_its_errors() -> None:
    """An error in the servers' process arrives with its traceback, and the process goes on serving."""

    async def main(servers: ServerProcess) -> None:
        with pytest.raises(ServerError, match="AssertionError"):
            await servers.stored("T")
        namesrv = await servers.open_cluster(1, {"T": 1})
        async with Producer("g", namesrv=namesrv) as producer:
            result = await producer.send(Message("T", b"x"))
        assert await servers.stored("T") == [Stored(result.message_id, "broker-a", 0, 0, b"x")]
        await servers.close_cluster()
        assert await servers.cpu() > 0

    with ServerProcess() as servers:
        run(main(servers))


def a_round(send_seconds: float, send_cpu: float, p50: float | None = None) -> Round:
    """A round of a thousand messages; the echo takes 1 ms and has a p50 of 10 µs, the bare client twice that."""
    echo, bare = (Sample(1_000, 0.001 * times, 0.001 * times, None, p50=1e-5 * times) for times in (1, 2))
    return Round(echo, bare, Sample(1_000, send_seconds, send_cpu, None, p50=p50))


def test_bare_round_fails_on_a_lost_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bare client's round, too, is compared with what its server has."""
    bodies = make_bodies(32)

    async def main() -> Sample:
        async with Servers() as servers:
            return await bare_round(servers, 100, 8, bodies)

    assert run(main()).messages == 100
    whole = Servers.bare_bodies

    async def one_less(servers: Servers) -> list[list[bytes]]:
        return [log[1:] for log in await whole(servers)]

    monkeypatch.setattr(Servers, "bare_bodies", one_less)
    with pytest.raises(WrongError, match="bare server"):
        run(main())


def test_ratio_is_that_of_each_round() -> None:
    """A ratio compares the two programs within a round, so that a slow round does not count for one of them."""
    series = Series(1, 512, 1024, [a_round(0.002, 0.004), a_round(0.004, 0.004)])
    assert series.ratios(lambda sample: sample.rate) == [0.5, 0.25]
    assert series.ratios(lambda sample: sample.rate, to="bare") == [1.0, 0.5]
    assert spread([3.0, 1.0, 2.0], 1) == "2.0 [1.0..3.0]"


def test_goals_are_judged() -> None:
    """Each measured figure that has a goal is compared with it; a figure over its limit is missed."""
    counted = Counts(100, 1, {"send": 1_200}, 100, 1, 2, 1.0)
    series = [Series(2, 512, 1024, [a_round(0.01, 0.004)]), Series(1, 1, 1024, [a_round(0.01, 0.02, 2e-5)])]
    found = goals(series, [counted])
    assert [(goal.name, round(goal.value, 3), goal.met) for goal in found] == [
        ("client CPU of a send, 512 in flight", 4.0, True),
        ("p50 of a send, one in flight on one loop", 2.0, False),
        ("Python calls of a send, one in flight", 12.0, False),
    ]
    assert Goal("exactly", 8, 8).met


def test_command_measures_in_small() -> None:
    """`python -m benchmarks` prints versions, both programs, their ratio and the counts, and ends well."""
    arguments = ["--rounds", "1", "--messages", "200", "--in-flight", "16", "--body", "50"]
    done = CliRunner().invoke(command.main, arguments)
    assert done.exit_code == 0, done.output
    programs = ("raw echo", "bare client", "send / raw", "send / bare")
    for text in (versions(), *programs, "two processes", "Counted", "stored as it was acknowledged"):
        assert text in done.output


def test_command_fails_without_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark whose check fails ends with exit code 1 and says why."""
    monkeypatch.setattr(workload, "differences", lambda results, there: ["A is gone"])
    arguments = ["--rounds", "1", "--messages", "100", "--in-flight", "4", "--processes", "1"]
    done = CliRunner().invoke(command.main, arguments)
    assert done.exit_code == 1
    assert "No result" in done.output and "A is gone" in done.output


def test_demo_ends_without_differences() -> None:
    """The demo needs no terminal: three brokers share the messages, everything is read back, nothing differs."""
    done = CliRunner().invoke(demo.main, ["--messages", "300", "--in-flight", "20"])
    assert done.exit_code == 0, done.output
    for name in ("broker-a", "broker-b", "broker-c"):
        assert re.search(rf"{name}\W+100\W+4\b", done.output), done.output
    assert "300 read back" in done.output and "0 differences" in done.output


def test_demo_fails_on_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo ends with exit code 1 when the store has something else than was acknowledged."""
    monkeypatch.setattr(demo, "differences", lambda results, there: differences(results[1:], there))
    done = CliRunner().invoke(demo.main, ["--messages", "30", "--in-flight", "2"])
    assert done.exit_code == 1
    assert "1 differences" in done.output and "was never acknowledged" in done.output
