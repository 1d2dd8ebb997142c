"""The simulator against Apache's own programs: their producers, their name servers, and their brokers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from broker_sim import BrokerConfig, Cluster
from rocketmq_aio import Message, Producer, ProducerConfig, SendResult
from rocketmq_aio.properties import decode_properties
from rocketmq_aio.wire.stored import StoredMessage, decode_many
from tests.interop import remoting
from tests.interop.java_producer import JavaReport, run_java_producer
from tests.interop.rocketmq import RealCluster

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
POLL = 0.05


class Serve:
    """`broker-sim serve` as a process, with JSON on its standard output."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "broker_sim", "serve", "--json", "--port", "0", *options]
        self.process = subprocess.Popen(
            command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        # A process that never says a word must not hang the test.
        watchdog = threading.Timer(PATIENCE, self.process.kill)
        watchdog.start()
        try:
            assert self.process.stdout is not None
            self.ready: dict[str, Any] = json.loads(self.process.stdout.readline() or "{}")
        finally:
            watchdog.cancel()

    @property
    def namesrv(self) -> str:
        """What clients are given."""
        address: str = self.ready["namesrv"]
        return address

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; the exit code, the rest of standard output, and standard error."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output, errors


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Serve]:
    """A running `broker-sim serve`, ended in any case."""
    serve = Serve(*options)
    try:
        yield serve
    finally:
        serve.process.kill()
        serve.process.communicate()


def decoded(queues: Mapping[tuple[str, int], bytes]) -> dict[tuple[str, int], list[StoredMessage]]:
    """Stored messages by queue, whose offsets have no holes."""
    stored = {queue: decode_many(records) for queue, records in queues.items()}
    for records in stored.values():
        assert [record.queue_offset for record in records] == list(range(len(records)))
    return stored


def check_java(queues: Mapping[tuple[str, int], bytes], topic: str, report: JavaReport, count: int) -> None:
    """What the Java producer says it has sent is stored, each message once, with its body, keys, tags and an id."""
    third = count // 3
    assert (report.sync, report.async_, report.oneway) == (count - 2 * third, third, third)
    stored = decoded(queues)
    assert all(stored.values()), "a queue got nothing"
    records = {record.body.decode(): record for of_queue in stored.values() for record in of_queue}
    names = [
        f"{mode}-{number}"
        for mode, share in (("sync", report.sync), ("async", report.async_), ("oneway", report.oneway))
        for number in range(share)
    ]
    assert sum(map(len, stored.values())) == count and sorted(records) == sorted(names)
    ids = {}
    for name, record in records.items():
        own = decode_properties(record.property_string)
        assert (record.topic, own["KEYS"], own["TAGS"]) == (topic, name, name.partition("-")[0])
        ids[name] = own["UNIQ_KEY"]
    assert len(set(ids.values())) == count
    assert (report.first_message_id, report.last_message_id) == (ids["sync-0"], ids[f"sync-{report.sync - 1}"])


async def _send(namesrv: str, messages: list[Message]) -> list[SendResult]:
    config = ProducerConfig(send_timeout=PATIENCE)
    async with Producer("interop_producer", namesrv=namesrv, config=config) as producer:
        return await asyncio.gather(*[producer.send(message) for message in messages])


def send_ours(namesrv: str, topic: str, count: int) -> list[tuple[Message, SendResult]]:
    """Send with our producer."""
    messages = [Message(topic, b"ours-%d" % number, keys=f"k{number}") for number in range(count)]
    return list(zip(messages, asyncio.run(_send(namesrv, messages)), strict=True))


def check_ours(queues: Mapping[tuple[str, int], bytes], sent: list[tuple[Message, SendResult]]) -> None:
    """Each of our messages is where its result says, and nothing else is there."""
    stored = decoded(queues)
    assert sum(map(len, stored.values())) == len(sent)
    for message, result in sent:
        record = stored[result.queue.broker_name, result.queue.queue_id][result.queue_offset]
        assert record.body == message.body
        assert decode_properties(record.property_string)["UNIQ_KEY"] == result.message_id


@contextlib.contextmanager
def guests(namesrv: str, topic: str) -> Iterator[Cluster]:
    """Two simulated brokers that register with a name server which is not theirs; their names are nobody else's."""
    configs = [
        BrokerConfig(name=f"{topic}-{letter}", cluster_name=f"{topic}-cluster", namesrv=namesrv) for letter in "ab"
    ]
    with Cluster(brokers=configs, name_servers=0, topics={topic: 4}) as cluster:
        assert cluster.namesrv == namesrv
        yield cluster


def wait_for_route(namesrv: str, topic: str, there: bool) -> dict[str, Any] | None:
    """A name server may apply what it has acknowledged a moment later."""
    deadline = time.monotonic() + PATIENCE
    while ((route := remoting.fetch_route(namesrv, topic)) is not None) is not there:
        assert time.monotonic() < deadline, f"route of {topic}: {route}"
        time.sleep(POLL)
    return route


def test_the_java_producer_sends_to_the_command(java_version: str) -> None:
    """A thousand messages of the official client, sync, async and one-way, to two brokers; SIGTERM ends it with 0."""
    with serving("--brokers", "2", "--topic", "T:4") as serve:
        assert serve.ready["event"] == "ready"
        assert list(serve.ready["brokers"]) == ["broker-a", "broker-b"]
        report = run_java_producer(java_version, serve.namesrv, "T", 1000)
        queues = remoting.read_topic(serve.namesrv, "T", 1000, timeout=0)
        assert sorted(queues) == [(broker, queue) for broker in ("broker-a", "broker-b") for queue in range(4)]
        check_java(queues, "T", report, 1000)
        code, output, errors = serve.stop()
    assert (code, json.loads(output), errors) == (0, {"event": "stopped"}, "")


def test_the_java_producer_creates_its_topic(java_version: str) -> None:
    """A topic that nobody has created appears with the first message of the official client, with its four queues."""
    with serving() as serve:
        report = run_java_producer(java_version, serve.namesrv, "Fresh", 300)
        queues = remoting.read_topic(serve.namesrv, "Fresh", 300, timeout=0)
        assert sorted(queues) == [("broker-a", queue) for queue in range(4)]
        check_java(queues, "Fresh", report, 300)


def test_the_command_ends_while_clients_are_connected() -> None:
    """Neither a client in the middle of its work nor one that is silent keeps SIGINT from ending the command with 0."""

    async def use(serve: Serve) -> tuple[int, str, str]:
        async with Producer("g", namesrv=serve.namesrv, config=ProducerConfig(drain=0)) as producer:
            await producer.send(Message("T", b"x"))
            _, writer = await asyncio.open_connection(*serve.namesrv.split(":"))
            ended = await asyncio.to_thread(serve.stop, signal.SIGINT)
            writer.transport.abort()
            return ended

    with serving("--topic", "T") as serve:
        assert asyncio.run(use(serve)) == (0, '{"event":"stopped"}\n', "")


def test_the_command_registers_elsewhere() -> None:
    """`--namesrv` with `--name-servers 0` makes its brokers guests of another name server, until it ends."""
    with Cluster(brokers=0) as host:
        with serving("--name-servers", "0", "--namesrv", host.namesrv, "--topic", "Guest:3") as serve:
            assert serve.namesrv == host.namesrv
            sent = send_ours(host.namesrv, "Guest", 30)
            check_ours(remoting.read_topic(host.namesrv, "Guest", 30, timeout=0), sent)
            assert serve.stop()[0] == 0
        assert remoting.fetch_route(host.namesrv, "Guest") is None


def test_simulated_brokers_join_a_real_name_server(cluster: RealCluster, java_version: str) -> None:
    """Our producer and Apache's find them there, beside the real broker; when they end, it forgets them."""
    topic = f"Guest-{java_version.replace('.', '')}"
    with guests(cluster.namesrv, topic) as simulated:
        route = wait_for_route(cluster.namesrv, topic, there=True)
        assert route is not None
        assert {broker["brokerName"]: broker["brokerAddrs"]["0"] for broker in route["brokerDatas"]} == (
            simulated.broker_addresses()
        )
        report = run_java_producer(java_version, cluster.namesrv, topic, 300)
        check_java(remoting.read_topic(cluster.namesrv, topic, 300, timeout=0), topic, report, 300)

        # A topic that comes later is announced.
        simulated.create_topic(f"{topic}-late", queues=2)
        wait_for_route(cluster.namesrv, f"{topic}-late", there=True)
        sent = send_ours(cluster.namesrv, f"{topic}-late", 200)
        queues = remoting.read_topic(cluster.namesrv, f"{topic}-late", 200, timeout=0)
        assert len(queues) == 4
        check_ours(queues, sent)
        assert len(simulated.messages(topic)) == 300
    wait_for_route(cluster.namesrv, topic, there=False)
    own = remoting.fetch_route(cluster.namesrv, "TBW102")
    assert own is not None and [broker["brokerName"] for broker in own["brokerDatas"]] == [cluster.broker_name]


def test_a_real_broker_joins_a_simulated_name_server(java_version: str, tmp_path: Path) -> None:
    """It registers, announces new topics and is found by our producer; killed, it is forgotten at once."""
    with Cluster(brokers=0) as host, RealCluster(java_version, tmp_path, namesrv=host.namesrv) as real:
        real.create_topic("Real", queues=3)
        sent = send_ours(host.namesrv, "Real", 300)
        check_ours(remoting.read_topic(host.namesrv, "Real", 300, timeout=PATIENCE), sent)
        real.kill_broker()
        wait_for_route(host.namesrv, "Real", there=False)


def store_one(namesrv: str, message: Message) -> StoredMessage:
    """Send a message to an empty topic of one queue, and read what is stored."""
    asyncio.run(_send(namesrv, [message]))
    ((record,),) = decoded(remoting.read_topic(namesrv, message.topic, 1)).values()
    return record


def properties(record: StoredMessage) -> dict[str, str]:
    """All properties but the id, which differs."""
    return {name: value for name, value in decode_properties(record.property_string).items() if name != "UNIQ_KEY"}


def test_a_message_is_stored_as_a_real_broker_stores_it(real_533: RealCluster) -> None:
    """One message, stored by either broker, differs in its places, times, ports and id only."""
    message = Message("SameRecord", b"body", tags="t", keys=("k", "l"), properties={"p": "中 \"'\\"}, flag=5)
    real_533.create_topic(message.topic, queues=1)
    real = store_one(real_533.namesrv, message)
    with Cluster(topics={message.topic: 1}) as cluster:
        simulated = store_one(cluster.namesrv, message)
    for name in (
        "total_size", "magic", "body_crc", "queue_id", "flag", "queue_offset", "sys_flag", "reconsume_times",
        "prepared_transaction_offset", "body", "topic",
    ):  # fmt: skip
        assert getattr(simulated, name) == getattr(real, name), name
    assert properties(simulated) == properties(real)
    assert (simulated.born_host[0], simulated.store_host[0]) == (real.born_host[0], real.store_host[0])


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({}, b"stored"),
        ({"e": -1}, b"in any queue"),
        ({"i": "KEYS\x01k\x02"}, b"without an id"),
        ({"e": 3}, b"no such queue"),
        ({"b": "Same Answer"}, b"no such name"),
        ({"b": "SCHEDULE_TOPIC_XXXX"}, b"not to be sent to"),
        ({"b": "SameAnswerUnknown", "c": "SameAnswerUnknownToo"}, b"no such topic"),
        ({"b": "SameAnswerMade", "e": 4}, b"created, no such queue"),
        ({"b": "SameAnswerMadeOfMany", "d": 9, "e": 8}, b"created, no more queues"),
        ({"b": "SameAnswerMadeOfNone", "d": -3}, b"created without queues"),
        ({"b": "SameAnswerMadeOfUnit", "k": "true", "e": 4}, b"created for a unit"),
        ({"b": "SameAnswerMadeLike", "c": "DefaultCluster", "d": 20, "e": 16}, b"created like another"),
        ({"b": "SameAnswerMadeUnlike", "c": "SameAnswer"}, b"not made to be copied"),
        ({"b": "%RETRY%SameAnswer", "c": "SameAnswerUnknown", "e": 1}, b"created for retries"),
        ({"b": "%RETRY%SameAnswerUnit", "c": "SameAnswerUnknown", "e": 1, "k": "true"}, b"for retries of a unit"),
        ({"b": "SameAnswerMadeOfNothing", "c": ""}, b"created without example"),
        ({"b": "SameAnswerMadeBare", "c": None}, b"no example named"),
        ({"b": "SameAnswerMadeUncounted", "d": None}, b"no queues wanted"),
        ({}, b"x" * (4 * 1024 * 1024 + 1)),
        ({"i": "UNIQ_KEY\x01id\x02big\x01" + "v" * 32_768}, b"too many properties"),
    ],
    ids=lambda value: value.decode()[:20] if isinstance(value, bytes) else "",
)
def test_a_send_is_answered_as_a_real_broker_answers_it(
    real_533: RealCluster, changes: dict[str, str | int | None], body: bytes
) -> None:
    """The same request gets the same code, remark and fields, but for ports, places, and where Java's code failed."""
    if remoting.fetch_route(real_533.namesrv, "SameAnswer") is None:
        real_533.create_topic("SameAnswer", queues=1)
    usual: dict[str, str | int | None] = {
        "a": "g", "b": "SameAnswer", "c": "TBW102", "d": 4, "e": 0, "f": 0, "g": 1_700_000_000_000, "h": 0,
        "i": "UNIQ_KEY\x01id\x02", "j": 0, "k": "false", "m": "false", "n": "broker-a",
    }  # fmt: skip
    fields = {name: value for name, value in (usual | changes).items() if value is not None}
    with Cluster(topics={"SameAnswer": 1}) as cluster:
        addresses = real_533.broker_addr, cluster.broker("broker-a").address
        real, simulated = (
            remoting.call(address, remoting.SEND_MESSAGE_V2, fields, body) for address in addresses
        )
    if real.remark.startswith("java.lang."):  # an exception that names a line of Java
        assert (simulated.code, simulated.fields) == (real.code, real.fields)
        assert simulated.remark.startswith("java.lang.")
        return
    assert (simulated.code, _without_ports(simulated.remark)) == (real.code, _without_ports(real.remark))
    places = ("msgId", "queueOffset", "transactionId")
    assert simulated.fields.keys() == real.fields.keys()
    assert {name: value for name, value in simulated.fields.items() if name not in places} == (
        {name: value for name, value in real.fields.items() if name not in places})  # fmt: skip


def _without_ports(remark: str) -> str:
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", remark)
