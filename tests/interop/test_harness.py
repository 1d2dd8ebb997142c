"""The interop harness itself, before anything of ours takes part: real servers, hand-made frames, Apache's producer."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest

from tests.interop import remoting
from tests.interop.jars import UnavailableError, fetch, make_once
from tests.interop.java_producer import JavaProgramError, run_java_producer
from tests.interop.rocketmq import RealCluster, StartError


def _send(cluster: RealCluster, topic: str, queue_id: int, body: bytes) -> remoting.Answer:
    fields: dict[str, str | int] = {
        "a": "interop_harness",
        "b": topic,
        "c": "TBW102",
        "d": 4,
        "e": queue_id,
        "f": 0,
        "g": time.time_ns() // 1_000_000,
        "h": 0,
        "i": "KEYS\x01order-7\x02TAGS\x01paid\x02",
        "j": 0,
        "k": "false",
        "m": "false",
        "n": cluster.broker_name,
    }
    return remoting.call(cluster.broker_addr, remoting.SEND_MESSAGE_V2, fields, body)


def _sizes(stored: bytes) -> list[int]:
    """The length that each stored message begins with."""
    sizes = []
    while stored:
        sizes.append(struct.unpack_from(">i", stored)[0])
        stored = stored[sizes[-1] :]
    return sizes


def test_a_created_topic_is_routed_with_its_queues(cluster: RealCluster) -> None:
    """`create_topic` returns when the name server shows the topic on the broker's address with the wanted queues."""
    topic = "HarnessRoute"
    assert remoting.fetch_route(cluster.namesrv, topic) is None
    cluster.create_topic(topic, queues=3)
    route = remoting.fetch_route(cluster.namesrv, topic)
    assert route is not None
    assert [(data["readQueueNums"], data["writeQueueNums"]) for data in route["queueDatas"]] == [(3, 3)]
    assert route["brokerDatas"][0]["brokerAddrs"] == {"0": cluster.broker_addr}


def test_a_message_sent_by_hand_is_pulled_back(cluster: RealCluster) -> None:
    """A SEND_MESSAGE_V2 frame is stored in the asked queue, and `pull` returns that message's bytes and no others."""
    topic, body = "HarnessSend", b"sent by hand \x00\xff"
    cluster.create_topic(topic)
    answer = _send(cluster, topic, 2, body)
    assert (answer.code, answer.fields["queueId"], answer.fields["queueOffset"]) == (remoting.SUCCESS, "2", "0")

    stored = remoting.read_topic(cluster.namesrv, topic, 1)[cluster.broker_name, 2]
    assert _sizes(stored) == [len(stored)]
    assert struct.pack(">i", len(body)) + body in stored
    assert remoting.pull(cluster.broker_addr, topic, 2, 0, 32) == stored
    assert remoting.pull(cluster.broker_addr, topic, 2, 1, 32) == b""


def test_reading_a_topic_that_stays_too_small_says_what_is_there(cluster: RealCluster) -> None:
    """`read_topic` gives up at its deadline, with the number of messages of each queue."""
    cluster.create_topic("HarnessEmpty", queues=1)
    with pytest.raises(TimeoutError, match=r"fewer than 1 messages.*\('broker-a', 0\): 0"):
        remoting.read_topic(cluster.namesrv, "HarnessEmpty", 1, timeout=0.0)


def test_the_java_producer_sends_in_every_mode(real_533: RealCluster, java_version: str) -> None:
    """The official client's messages, sync, async and one-way, are all in the real broker, each exactly once."""
    topic = f"HarnessJava-{java_version.replace('.', '')}"
    real_533.create_topic(topic)
    report = run_java_producer(java_version, real_533.namesrv, topic, 1000)
    assert (report.sync, report.async_, report.oneway) == (334, 333, 333)
    assert report.first_message_id != report.last_message_id

    queues = remoting.read_topic(real_533.namesrv, topic, 1000)
    assert sum(len(_sizes(stored)) for stored in queues.values()) == 1000
    everything = b"".join(queues.values())
    for mode, count in (("sync", 334), ("async", 333), ("oneway", 333)):
        for name in (f"{mode}-{i}".encode() for i in range(count)):
            # The body, and the length of the topic that follows it in a stored message.
            assert everything.count(struct.pack(">i", len(name)) + name + bytes([len(topic)])) == 1


def test_a_java_producer_that_fails_says_why(real_533: RealCluster) -> None:
    """A topic name that no client accepts fails the program, and its own words are in the error."""
    with pytest.raises(JavaProgramError, match=r"(?s)status 1.*sync-0: .*topic"):
        run_java_producer("5.3.3", real_533.namesrv, "not a topic", 3)


def test_a_killed_broker_comes_back_with_its_messages(cluster: RealCluster) -> None:
    """After SIGKILL and a new start the broker has another pid, the same address, and what it acknowledged before."""
    topic, before = "HarnessRestart", cluster.broker_pid
    cluster.create_topic(topic, queues=1)
    _send(cluster, topic, 0, b"survives")
    assert b"survives" in remoting.read_topic(cluster.namesrv, topic, 1)[cluster.broker_name, 0]
    cluster.kill_broker()
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)
    with pytest.raises(OSError, match="refused"):
        remoting.pull(cluster.broker_addr, topic, 0, 0, 1)
    cluster.start_broker()
    assert cluster.broker_pid != before
    assert b"survives" in remoting.read_topic(cluster.namesrv, topic, 1)[cluster.broker_name, 0]


def test_a_failed_start_leaves_nothing_running(tmp_path: Path) -> None:
    """A broker that dies of its configuration is reported with its own words, and the name server is ended too."""
    try:
        fetch("5.3.3")
    except UnavailableError as error:
        pytest.skip(str(error))
    (tmp_path / "store").write_text("where the broker wants a directory")
    cluster = RealCluster("5.3.3", tmp_path)
    with pytest.raises(StartError, match=r"(?s)broker 5.3.3 ended with status.*--- broker.out.*store"):
        cluster.__enter__()
    with pytest.raises(OSError, match="refused"):
        remoting.fetch_route(cluster.namesrv, "TBW102")


def test_two_runs_that_fetch_at_once_do_not_meet(tmp_path: Path) -> None:
    """The run that finishes second keeps the first one's directory and leaves nothing of its own behind."""

    def fill_first(partial: Path) -> None:
        (partial / "jar").write_text("first")

    def fill_second(partial: Path) -> None:
        (partial / "jar").write_text("second")
        make_once(tmp_path / "lib", fill_first)

    assert make_once(tmp_path / "lib", fill_second) == tmp_path / "lib"
    assert [(path.name, (path / "jar").read_text()) for path in tmp_path.iterdir()] == [("lib", "first")]


def test_a_missing_java_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Java on the PATH the reason to skip says what is missing and what for."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="`java` is not on the PATH: interop tests run the real RocketMQ"):
        fetch("5.3.3")
