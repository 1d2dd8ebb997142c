"""What every producer must do, as scenarios that run unchanged against simulated and against real brokers.

A scenario is a coroutine function of a `Target`. It makes its own topic, sends, and reads back over the wire what is
stored: each acknowledged message must be at the queue and offset of its result, byte for byte, and nothing else may be
there. It refuses to know what kind of brokers it talks to.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol
from zlib import crc32

import pytest

from rocketmq_aio import (
    ClosedError,
    Message,
    MessageError,
    MessageIllegalError,
    MessageQueue,
    NoRouteError,
    Producer,
    ProducerConfig,
    SendRejectedError,
    SendResult,
    SendStatus,
    State,
)
from rocketmq_aio.environment import Environment
from rocketmq_aio.properties import KEYS, TAGS, UNIQ_KEY, WAIT, decode_properties
from rocketmq_aio.validation import USER_PROPERTY_BYTES_MAX
from rocketmq_aio.wire.ids import offset_message_id
from rocketmq_aio.wire.stored import StoredMessage

__all__ = ["SCENARIOS", "Stored", "Target", "send_in_flight"]

Stored = Mapping[tuple[str, int], Sequence[StoredMessage]]
"""(broker name, queue id) → what that queue holds, from its beginning."""

KiB, MiB = 1024, 1024 * 1024
#: Generous: a busy machine is not a failing test.
TIMEOUT = 30.0
#: What brokers add to every message; 4.9.7 stores only the last.
ADDED_BY_BROKERS = frozenset(("MSG_REGION", "TRACE_ON", "CLUSTER"))

NASTY = (
    '"quoted"', "'single'", "back\\slash \\u0041 \\\\", '{"a":[1,"b"]}', "%", "%s %d %% %(a)s {0}", "a=b;c:d,e|f&g",
    "control\x00" + "".join(map(chr, range(3, 32))) + "\x7f\x80\x9f!", "  kept blanks  ", "\ttabs\r\nand lines\n",
    "中文，日本語、한국어", "é è ñ ß Ω ж א ع", "😀 👩\u200d👩\u200d👧 🏳\ufe0f\u200d🌈 𝔘𝔫𝔦", "\u2028\u2029\ufeff\ufffd",
    "\U0010fffd\ue000", "x" * 5000,
)  # fmt: skip


class Target(Protocol):
    """Brokers to send to, and a way to look at what they store.

    Attributes:
        namesrv: for the producer.
        environment: for the producer; None for the real one.
        prefix: begins the names of all topics; another one for each run against the same brokers.
        not_stored: names of properties that these brokers drop.
    """

    namesrv: str
    environment: Environment | None
    prefix: str
    not_stored: frozenset[str]

    async def create_topic(self, name: str, queues: int) -> None:
        """Create a topic with so many queues on each broker; clients see it at once."""

    async def read_back(self, topic: str, count: int) -> Stored:
        """Pull everything that is stored of a topic, when at least `count` messages are there."""


def new_producer(target: Target, *, max_message_bytes: int = 4 * MiB, topics: Sequence[str] = ()) -> Producer:
    """A producer for the target, patient."""
    config = ProducerConfig(send_timeout=TIMEOUT, max_message_bytes=max_message_bytes)
    return Producer(
        "producer_suite", namesrv=target.namesrv, config=config, topics=topics, environment=target.environment
    )


async def new_topic(target: Target, name: str, queues: int = 4) -> str:
    """Create a topic of the scenario's own."""
    topic = f"{target.prefix}{name}"
    await target.create_topic(topic, queues)
    return topic


# --- what must be true of what is stored


def properties_of(message: Message, target: Target) -> dict[str, str]:
    """The properties of ours that must be stored, without the id."""
    pairs = {WAIT: "true" if message.wait_store_ok else "false", **message.properties}
    if message.tags:
        pairs[TAGS] = message.tags
    if message.keys:
        pairs[KEYS] = " ".join(message.keys)
    return {name: value for name, value in pairs.items() if name not in target.not_stored}


def stored_properties(stored: StoredMessage) -> dict[str, str]:
    """The properties of a stored message without those that brokers add. No name may be there twice."""
    properties = decode_properties(stored.property_string)
    assert stored.property_string.count("\x01") == len(properties)
    return {name: value for name, value in properties.items() if name not in ADDED_BY_BROKERS}


def check_one(target: Target, message: Message, result: SendResult, stored: StoredMessage) -> None:
    """The stored message is the sent one, and is what and where its result says."""
    assert result.status is SendStatus.SEND_OK and result.ok and result.attempt_count == 1
    assert (stored.topic, stored.queue_id, stored.queue_offset) == (
        message.topic, result.queue.queue_id, result.queue_offset)  # fmt: skip
    assert stored.body == message.body
    assert stored.body_crc == crc32(message.body) & 0x7FFFFFFF
    assert (stored.flag, stored.sys_flag, stored.reconsume_times) == (message.flag, 0, 0)
    assert stored_properties(stored) == properties_of(message, target) | {UNIQ_KEY: result.message_id}
    assert offset_message_id(*stored.store_host, stored.physical_offset) == result.offset_message_id
    assert stored.born_timestamp_ms > 0


async def check(target: Target, topic: str, sent: Iterable[tuple[Message, SendResult]]) -> Stored:
    """The topic holds exactly these messages, each where its result says, and the queues have no holes."""
    pairs = list(sent)
    queues = await target.read_back(topic, len(pairs))
    for records in queues.values():
        assert [record.queue_offset for record in records] == list(range(len(records)))
    assert sum(map(len, queues.values())) == len(pairs)
    places = {(result.queue, result.queue_offset) for _, result in pairs}
    assert len(places) == len({result.message_id for _, result in pairs}) == len(pairs)
    for message, result in pairs:
        assert result.queue.topic == topic
        records = queues[result.queue.broker_name, result.queue.queue_id]
        check_one(target, message, result, records[result.queue_offset])
    return queues


async def send_each(producer: Producer, messages: Iterable[Message]) -> list[tuple[Message, SendResult]]:
    """Send one after the other."""
    return [(message, await producer.send(message)) for message in messages]


async def send_in_flight(target: Target, name: str, count: int, in_flight: int) -> float:
    """Send `count` messages of 100 bytes to 2 KiB, all different, `in_flight` at a time, and read all of them back.

    Returns:
        Seconds from the first send to the last acknowledgement.
    """
    topic = await new_topic(target, name)
    rng = random.Random(count)
    messages = [Message(topic, b"%08d" % number + rng.randbytes(rng.randint(92, 2040))) for number in range(count)]
    results: dict[int, SendResult] = {}
    numbers = iter(range(count))

    async def work(producer: Producer) -> None:
        for number in numbers:
            results[number] = await producer.send(messages[number])

    loop = asyncio.get_running_loop()
    async with new_producer(target, topics=[topic]) as producer:
        started = loop.time()
        await asyncio.gather(*[work(producer) for _ in range(in_flight)])
        elapsed = loop.time() - started
        assert producer.stats().sent == count
        assert producer.stats().failed == {}
    await check(target, topic, [(messages[number], result) for number, result in sorted(results.items())])
    return elapsed


# --- the scenarios


async def one_message(target: Target) -> None:
    """A message without anything is stored, and its result tells all about it."""
    topic = await new_topic(target, "One")
    message = Message(topic, b"hello")
    async with new_producer(target) as producer:
        result = await producer.send(message)
        assert result.queue in await producer.queues(topic)
        assert result.raise_for_status() is result
    assert len(result.message_id) == 32 and int(result.message_id, 16)
    assert result.transaction_id in ("", result.message_id)  # 4.x sends none
    assert (result.queue_offset, result.recall_handle, result.region_id) == (0, "", "DefaultRegion")
    assert result.elapsed >= 0
    await check(target, topic, [(message, result)])


async def a_message_sent_twice(target: Target) -> None:
    """The same object is two messages with two ids, one by the slow path (an option) and one by the warm path."""
    topic = await new_topic(target, "Twice", queues=1)
    message = Message(topic, b"same", tags="t", keys="k", properties={"p": "v"})
    async with new_producer(target) as producer:
        results = [await producer.send(message, send_timeout=TIMEOUT), await producer.send(message)]
    await check(target, topic, [(message, result) for result in results])


async def texts_that_need_escaping(target: Target) -> None:
    """Quotes, backslashes, control characters, all scripts, emoji and `%` arrive unchanged in tags, keys, properties.

    Only U+0001 and U+0002 are refused: they separate properties.
    """
    topic = await new_topic(target, "Texts")
    messages = [Message(topic, text.encode(), tags=text) for text in NASTY]
    messages += [Message(topic, b"keys", keys=["".join(text.split()), "second"]) for text in NASTY]
    messages += [Message(topic, b"value", properties={"name": text, "next": "plain"}) for text in NASTY]
    messages += [Message(topic, b"name", properties={text: "value", "next": "plain"}) for text in NASTY]
    together = {f"{number} {text}": text for number, text in enumerate(NASTY)}
    messages.append(Message(topic, b"all", tags="标签 \"'\\", keys=("k1", "\x00k2", "😀"), properties=together, flag=7))
    async with new_producer(target) as producer:
        sent = await send_each(producer, messages)
        for separator in ("\x01", "\x02"):
            with pytest.raises(MessageError, match=f"U\\+000{ord(separator)}"):
                await producer.send(Message(topic, b"x", properties={"a": f"b{separator}c"}))
    await check(target, topic, sent)


async def as_many_properties_as_fit(target: Target) -> None:
    """The longest properties that the client lets through suit the broker too; one byte more is refused here."""
    topic = await new_topic(target, "Properties")
    ascii_value = "v" * (USER_PROPERTY_BYTES_MAX - len("name") - 2)
    wide_value = "中" * (len(ascii_value) // 3)
    async with new_producer(target) as producer:
        sent = await send_each(
            producer, [Message(topic, b"x", properties={"name": value}) for value in (ascii_value, wide_value)]
        )
        with pytest.raises(MessageError, match="the limit is"):
            await producer.send(Message(topic, b"x", properties={"name": ascii_value + "v"}))
    await check(target, topic, sent)


async def bodies_of_all_kinds(target: Target) -> None:
    """One byte, all byte values, bytes that look like the protocol, and sizes around those that are written apart."""
    topic = await new_topic(target, "Bodies")
    rng = random.Random(1)
    bodies = [
        b"\x00", b"\xff", b"\x01\x02", bytes(range(256)), b'\x00\x00\x00\x10\x00\x00\x00\x08{"code":',
        *(rng.randbytes(size) for size in (4 * KiB, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1, 1 * MiB)), b"\x00" * 100_000,
    ]  # fmt: skip
    async with new_producer(target) as producer:
        sent = await send_each(producer, [Message(topic, body) for body in bodies])
        messages = [Message(topic, body, keys="again") for body in reversed(bodies)]
        results = await asyncio.gather(*[producer.send(message) for message in messages])
    await check(target, topic, [*sent, *zip(messages, results, strict=True)])


async def the_largest_body(target: Target) -> None:
    """4 MiB exactly are stored; one byte more is refused before anything is sent."""
    topic = await new_topic(target, "Largest")
    message = Message(topic, random.Random(2).randbytes(4 * MiB), tags="large")
    async with new_producer(target) as producer:
        sent = await send_each(producer, [message, Message(topic, b"after it")])
        with pytest.raises(MessageError, match=r"4,194,305 bytes.*4,194,304"):
            await producer.send(Message(topic, message.body + b"x"))
    await check(target, topic, sent)


async def a_body_too_large_for_the_broker(target: Target) -> None:
    """Where the client's limit is raised and the broker's is not, the broker's words come as a typed error."""
    topic = await new_topic(target, "TooLarge")
    async with new_producer(target, max_message_bytes=8 * MiB) as producer:
        first = await send_each(producer, [Message(topic, b"before")])
        with pytest.raises(SendRejectedError, match="limit 4194304B") as caught:
            await producer.send(Message(topic, b"x" * (4 * MiB + 1)))
        last = await send_each(producer, [Message(topic, b"after")])
        assert producer.stats().failed == {"SendRejectedError": 1}
        assert producer.stats().reconnects == 0
    error = caught.value
    assert isinstance(error.__cause__, MessageIllegalError)
    assert (error.code, error.maybe_stored, error.retryable, len(error.attempts)) == (13, False, False, 1)
    assert error.remark.startswith("the message is illegal")
    await check(target, topic, first + last)


async def without_waiting_for_the_store(target: Target) -> None:
    """`wait_store_ok=False` travels and changes nothing else."""
    topic = await new_topic(target, "NoWait")
    messages = [Message(topic, b"%d" % number, wait_store_ok=bool(number % 2)) for number in range(4)]
    async with new_producer(target) as producer:
        sent = await send_each(producer, messages)
    await check(target, topic, sent)


async def flags(target: Target) -> None:
    """All 32 bits of the flag are kept, negative numbers included."""
    topic = await new_topic(target, "Flags")
    async with new_producer(target) as producer:
        sent = await send_each(
            producer, [Message(topic, b"x", flag=flag) for flag in (0, 1, -1, 2**31 - 1, -(2**31), 0x1234)]
        )
    await check(target, topic, sent)


async def names_of_topics(target: Target) -> None:
    """Every character that RocketMQ allows works in a name, as does a name of the greatest length."""
    names = ["-a%sb|c_D%d%%", f"-{'t' * (126 - len(target.prefix))}"]
    async with new_producer(target) as producer:
        for name in names:
            topic = await new_topic(target, name)
            sent = await send_each(producer, [Message(topic, b"first"), Message(topic, b"warm", tags="t")])
            await check(target, topic, sent)


async def oneway_messages(target: Target) -> None:
    """One-way messages are all stored, each exactly once and whole, even if the producer is closed right after."""
    topic = await new_topic(target, "Oneway")
    messages = [
        Message(topic, b"%d" % number * (1 + number * 20), keys=f"k{number}", properties={"n": f"\"{number}\" 中 %s"})
        for number in range(100)
    ]
    async with new_producer(target) as producer:
        for message in messages[:50]:
            await producer.send_oneway(message)
        await asyncio.gather(*[producer.send_oneway(message) for message in messages[50:]])
        assert producer.stats().sent == len(messages)
    queues = await target.read_back(topic, len(messages))
    stored = [record for records in queues.values() for record in records]
    assert len(stored) == len(messages)
    by_body = {record.body: record for record in stored}
    ids = set()
    for message in messages:
        properties = stored_properties(by_body[message.body])
        ids.add(properties.pop(UNIQ_KEY))
        assert properties == properties_of(message, target)
    assert len(ids) == len(messages)


async def oneway_messages_get_no_answer(target: Target) -> None:
    """Brokers keep silent about one-way messages, on each connection."""
    topic = await new_topic(target, "Silent")
    async with new_producer(target) as producer:
        for _ in range(20):
            await producer.send_oneway(Message(topic, b"x"))
        await target.read_back(topic, 20)
        await producer.ping()  # its answers come after any to the messages
        assert producer.stats().late_answers == 0


async def many_at_once(target: Target) -> None:
    """A thousand sends, 128 at a time, are each acknowledged once and stored once."""
    await send_in_flight(target, "AtOnce", 1000, 128)


async def rotation(target: Target) -> None:
    """Sends one after the other go round all writable queues of all brokers."""
    topic = await new_topic(target, "Rotation", queues=8)
    async with new_producer(target) as producer:
        queues = await producer.queues(topic)
        sent = await send_each(producer, [Message(topic, b"x")] * (3 * len(queues)))
    assert Counter(result.queue for _, result in sent) == dict.fromkeys(queues, 3)
    stored = await check(target, topic, sent)
    assert {len(records) for records in stored.values()} == {3}


async def queues_of_a_topic(target: Target) -> None:
    """`queues` names each queue of each broker in order; `ping` succeeds before, between and after sends."""
    topic = await new_topic(target, "Queues", queues=3)
    async with new_producer(target) as producer:
        await producer.ping()
        queues = await producer.queues(topic)
        await producer.ping()
        await producer.send(Message(topic, b"x"))
        await producer.ping()
    brokers = sorted({queue.broker_name for queue in queues})
    assert queues == tuple(MessageQueue(topic, name, queue_id) for name in brokers for queue_id in range(3))
    stored = await target.read_back(topic, 1)
    assert sorted(stored) == [(queue.broker_name, queue.queue_id) for queue in queues]


async def an_unknown_topic(target: Target) -> None:
    """A topic that no name server knows is a `NoRouteError` that names it, for every way to ask."""
    topic = f"{target.prefix}Unknown"
    async with new_producer(target) as producer:
        for call in (
            lambda: producer.send(Message(topic, b"x")),
            lambda: producer.send_oneway(Message(topic, b"x")),
            lambda: producer.queues(topic),
        ):
            with pytest.raises(NoRouteError, match=topic) as caught:
                await call()
            assert (caught.value.topic, caught.value.retryable, caught.value.maybe_stored) == (topic, True, False)
    with pytest.raises(NoRouteError, match=topic):
        await new_producer(target, topics=[topic]).start()


async def closing(target: Target) -> None:
    """`aclose` waits for what is in flight, says what became of everything, and refuses what comes later."""
    topic = await new_topic(target, "Closing")
    producer = new_producer(target)
    await producer.start()
    with pytest.raises(NoRouteError):
        await producer.send(Message(f"{target.prefix}Nowhere", b"x"))
    messages = [Message(topic, b"%d" % number) for number in range(20)]
    sends = [asyncio.ensure_future(producer.send(message)) for message in messages]
    await asyncio.sleep(0)  # they have begun, and have neither a route nor a connection yet
    report = await producer.aclose(drain=TIMEOUT)
    results = await asyncio.gather(*sends)
    assert (report.sent, report.failed, report.abandoned) == (20, 1, 0)
    assert await producer.aclose() is report
    assert producer.state is State.CLOSED
    with pytest.raises(ClosedError):
        await producer.send(messages[0])
    await check(target, topic, zip(messages, results, strict=True))


SCENARIOS: tuple[Callable[[Target], Awaitable[None]], ...] = (
    one_message, a_message_sent_twice, texts_that_need_escaping, as_many_properties_as_fit, bodies_of_all_kinds,
    the_largest_body, a_body_too_large_for_the_broker, without_waiting_for_the_store, flags, names_of_topics,
    oneway_messages, oneway_messages_get_no_answer, many_at_once, rotation, queues_of_a_topic, an_unknown_topic,
    closing,
)  # fmt: skip
