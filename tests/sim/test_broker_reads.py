"""A simulated broker answers pulls and questions for offsets as 5.3.3 does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rocketmq_aio.codes import RequestCode
from rocketmq_aio.wire.frame import RemotingCommand
from rocketmq_aio.wire.stored import decode_many
from tests.support.brokers import Broker, pull_fields, with_broker


def found(answer: RemotingCommand) -> list[bytes]:
    return [message.body for message in decode_many(answer.body)]


def offsets(answer: RemotingCommand) -> tuple[int, str | None, dict[str, str]]:
    fields = dict(answer.ext_fields or {})
    assert [fields.pop(name) for name in ("suggestWhichBrokerId", "topicSysFlag", "groupSysFlag")] == ["0"] * 3
    return answer.code, answer.remark, fields


async def fill(broker: Broker, count: int, body: bytes = b"") -> None:
    for number in range(count):
        await broker.send(body or b"%d" % number, i=f"TAGS\x01Tag{'AB'[number % 2]}\x02")


@pytest.mark.parametrize("code", [RequestCode.PULL_MESSAGE, RequestCode.LITE_PULL_MESSAGE])
def test_found(code: int) -> None:
    """Records from the offset on, and where to go on; both kinds of pull alike."""

    async def main(broker: Broker) -> None:
        await fill(broker, 6)
        answer = await broker.pull(code=code, queueOffset=2, maxMsgNums=2)
        assert found(answer) == [b"2", b"3"]
        assert offsets(answer) == (0, "FOUND", {"nextBeginOffset": "4", "minOffset": "0", "maxOffset": "6"})
        answer = await broker.pull(code=code, queueOffset=4)
        assert found(answer) == [b"4", b"5"]

    with_broker(main)


@pytest.mark.parametrize(
    ("offset", "code", "status", "following"),
    [
        (3, 19, "OFFSET_OVERFLOW_ONE", 3),
        (4, 21, "OFFSET_OVERFLOW_BADLY", 3),
        (1000, 21, "OFFSET_OVERFLOW_BADLY", 3),
        (-1, 21, "OFFSET_TOO_SMALL", 0),
    ],
)
def test_offsets_outside(offset: int, code: int, status: str, following: int) -> None:
    """The end is waited for, everything else is corrected; the request to wait is answered at once."""

    async def main(broker: Broker) -> None:
        await fill(broker, 3)
        expected = (code, status, {"nextBeginOffset": str(following), "minOffset": "0", "maxOffset": "3"})
        for sys_flag in (4, 6):
            answer = await broker.pull(queueOffset=offset, sysFlag=sys_flag, suspendTimeoutMillis=15_000)
            assert (offsets(answer), answer.body) == (expected, b"")

    with_broker(main)


@pytest.mark.parametrize(("offset", "code"), [(0, 19), (5, 21)])
def test_empty_queue(offset: int, code: int) -> None:
    """A queue without messages begins at 0."""

    async def main(broker: Broker) -> None:
        expected = {"nextBeginOffset": "0", "minOffset": "0", "maxOffset": "0"}
        assert offsets(await broker.pull(queueOffset=offset)) == (code, "NO_MESSAGE_IN_QUEUE", expected)

    with_broker(main)


@pytest.mark.parametrize(
    ("wanted", "limit", "count"),
    [
        ("32", None, 32), ("1000", None, 32), ("5", None, 5), ("0", None, 1), ("-1", None, 1), ("32", "1", 1),
        ("32", "0", 32),
    ],
)  # fmt: skip
def test_how_many(wanted: str, limit: str | None, count: int) -> None:
    """At most 32 messages, at least one; a limit of bytes counts if it is not 0."""

    async def main(broker: Broker) -> None:
        await fill(broker, 40)
        answer = await broker.pull(maxMsgNums=wanted, maxMsgBytes=limit)
        assert len(found(answer)) == count
        assert (answer.ext_fields or {})["nextBeginOffset"] == str(count)

    with_broker(main)


def test_how_large() -> None:
    """256 KiB at most, but one message whatever its size."""

    async def main(broker: Broker) -> None:
        await fill(broker, 3, bytes(100_000))
        await fill(broker, 1, bytes(1_000_000))
        assert list(map(len, found(await broker.pull()))) == [100_000] * 2
        assert list(map(len, found(await broker.pull(queueOffset=3)))) == [1_000_000]
        assert list(map(len, found(await broker.pull(subscription="TagA || TagB")))) == [100_000] * 2

    with_broker(main)


@pytest.mark.parametrize(
    ("expression", "bodies", "following"),
    [
        ("TagA", [b"0", b"2", b"4"], 5), (" TagB||TagX ", [b"1", b"3"], 5), ("TagX", [], 5),
        ("TagA || TagB", [b"0", b"1", b"2", b"3", b"4"], 5), ("*", [b"0", b"1", b"2", b"3", b"4"], 5),
        ("", [b"0", b"1", b"2", b"3", b"4"], 5),
    ],
)  # fmt: skip
def test_tags(expression: str, bodies: list[bytes], following: int) -> None:
    """Messages with one of the tags; where none is among those looked at, the client is to ask again, further on."""

    async def main(broker: Broker) -> None:
        await fill(broker, 5)
        answer = await broker.pull(subscription=expression)
        assert found(answer) == bodies
        code, status, fields = offsets(answer)
        assert (code, status) == ((0, "FOUND") if bodies else (20, "NO_MATCHED_MESSAGE"))
        assert fields["nextBeginOffset"] == str(following)

    with_broker(main)


def test_filtered_pull_looks_at_so_many() -> None:
    """A pull that finds nothing ends after 800 messages."""

    async def main(broker: Broker) -> None:
        await fill(broker, 801)
        answer = await broker.pull(subscription="TagX")
        assert (answer.code, (answer.ext_fields or {})["nextBeginOffset"]) == (20, "800")

    with_broker(main)


REFUSED: list[Any] = [
    pytest.param({"consumerGroup": "bad.group"}, 26, "subscription group [bad.group] does not exist, \nS", id="group"),
    pytest.param({"topic": "NoTopic"}, 17, "topic[NoTopic] not exist, apply first please! \nSee ", id="topic"),
    pytest.param({"topic": "W"}, 16, "the topic[W] pulling message is forbidden", id="not-readable"),
    pytest.param({"queueId": "4"}, 29, "queueId[4] is illegal, topic:[T] topicConfig.readQueueNums:[4]", id="queue"),
    pytest.param({"queueId": "-1"}, 29, "queueId[-1] is illegal, topic:[T] topicConfig.readQueueNums:[4", id="below"),
    pytest.param({"subscription": "||"}, 23, "parse the consumer's subscription failed", id="expression"),
    pytest.param(
        {"expressionType": "SQL92"}, 1, "The broker does not support consumer to filter message by SQL92", id="sql"
    ),
    pytest.param({"sysFlag": "0"}, 24, "the consumer's group info not exist\nSee ", id="no-heartbeat"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "code", "remark"), REFUSED)
def test_refused_pulls(changes: dict[str, str], code: int, remark: str) -> None:
    """Each has the broker's code and words."""

    async def main(broker: Broker) -> None:
        broker.cluster.create_topic("W", permission=2)
        answer = await broker.pull(**changes)
        assert answer.code == code
        assert answer.remark is not None and answer.remark.startswith(remark)
        assert answer.ext_fields == ({"forbiddenType": "3"} if code == 16 else {})

    with_broker(main)


@pytest.mark.parametrize("name", ["consumerGroup", "topic", "queueId", "queueOffset", "maxMsgNums", "sysFlag"])
def test_pulls_without_a_mandatory_field(name: str) -> None:
    """Where Java throws, the answer is SYSTEM_ERROR without ext fields; the other fields nobody misses."""

    async def main(broker: Broker) -> None:
        answer = await broker.pull(**{name: None})
        assert (answer.code, answer.ext_fields) == (1, None)

    with_broker(main)


def test_optional_fields() -> None:
    """Offsets to commit, times to wait, versions and kinds of expressions may be missing."""

    async def main(broker: Broker) -> None:
        fields = dict.fromkeys(("commitOffset", "suspendTimeoutMillis", "subVersion", "expressionType", "subscription"))
        assert (await broker.pull(**fields)).code == 19

    with_broker(main)


def test_subscription_of_the_heartbeat() -> None:
    """A pull without an expression takes its group's; a topic that is not in it, or a newer version, is refused."""

    async def main(broker: Broker) -> None:
        await fill(broker, 4)
        broker.cluster.create_topic("U")

        async def subscribe(version: int, expression: str) -> None:
            body = (
                '{"clientID":"me","consumerDataSet":[{"groupName":"group","subscriptionDataSet":'
                f'[{{"topic":"T","subString":"{expression}","subVersion":{version}}}]}}]}}'
            )
            assert (await broker.call(RequestCode.HEART_BEAT, {}, body.encode())).code == 0

        await subscribe(5, "TagB")
        assert found(await broker.pull(sysFlag=0, subVersion=5)) == [b"1", b"3"]
        assert found(await broker.pull(sysFlag=4, subVersion=9)) == [b"0", b"1", b"2", b"3"]
        answer = await broker.pull(sysFlag=0, subVersion=6)
        assert (answer.code, answer.remark) == (25, "the consumer's subscription not latest")
        answer = await broker.pull(sysFlag=0, topic="U")
        assert answer.code == 24 and (answer.remark or "").startswith("the consumer's subscription not exist\nSee ")
        await subscribe(4, "TagA")  # older: the group stays with what it has
        assert found(await broker.pull(sysFlag=0, subVersion=5)) == [b"1", b"3"]
        await subscribe(6, "TagA")
        assert found(await broker.pull(sysFlag=0, subVersion=6)) == [b"0", b"2"]

    with_broker(main)


async def ask(broker: Broker, code: int, **fields: Any) -> int:
    answer = await broker.call(code, {"topic": "T", "queueId": 2} | fields)
    assert answer.code == 0 and answer.ext_fields is not None
    (value,) = answer.ext_fields.values()
    return int(value)


def test_offsets_and_times() -> None:
    """Where a queue begins and ends, what was stored when; an unknown queue is an empty one."""

    async def main(broker: Broker) -> None:
        times = []
        for _ in range(3):
            await fill(broker, 1)
            times.append(broker.cluster.messages("T")[-1].store_timestamp_ms)
            await asyncio.sleep(1)
        search = RequestCode.SEARCH_OFFSET_BY_TIMESTAMP
        assert await ask(broker, RequestCode.GET_MAX_OFFSET) == 3
        assert await ask(broker, RequestCode.GET_MIN_OFFSET) == 0
        assert await ask(broker, RequestCode.GET_EARLIEST_MSG_STORETIME) == times[0]
        lower = [await ask(broker, search, timestamp=at) for at in (0, times[1], times[1] + 1, times[2] + 1)]
        upper = [
            await ask(broker, search, timestamp=at, boundaryType="upper")
            for at in (0, times[1], times[1] - 1, times[2] + 1)
        ]
        assert (lower, upper) == ([0, 1, 2, 3], [0, 1, 0, 2])
        for other in ({"queueId": 3}, {"topic": "NoTopic"}, {"queueId": None}):
            assert await ask(broker, RequestCode.GET_MAX_OFFSET, **other) == 0
            assert await ask(broker, RequestCode.GET_MIN_OFFSET, **other) == 0
            assert await ask(broker, search, timestamp=times[1], **other) == 0
            assert await ask(broker, RequestCode.GET_EARLIEST_MSG_STORETIME, **other) == -1
        assert (await broker.call(search, {"topic": "T", "queueId": 2})).code == 1

    with_broker(main)


def test_view_message() -> None:
    """A message is found by its physical offset, and only by its beginning."""

    async def main(broker: Broker) -> None:
        await fill(broker, 3)
        at = broker.cluster.messages("T")[1].physical_offset
        answer = await broker.call(RequestCode.VIEW_MESSAGE_BY_ID, {"topic": "T", "offset": at})
        assert (answer.code, answer.ext_fields, found(answer)) == (0, None, [b"1"])
        for offset, text in ((at + 1, str(at + 1)), (-1, "-1"), (999_999, "999999"), (None, "null")):
            answer = await broker.call(RequestCode.VIEW_MESSAGE_BY_ID, {"offset": offset})
            assert (answer.code, answer.remark) == (1, f"can not find message by the offset, {text}")

    with_broker(main)


def test_large_pulls_of_a_slow_reader() -> None:
    """A client that does not read stops being read; when it reads on, every answer comes."""

    async def main(broker: Broker) -> None:
        await fill(broker, 1, bytes(200_000))
        client = broker.client
        client.transport.pause_reading()
        for _ in range(50):
            client.post(RequestCode.PULL_MESSAGE, pull_fields(), flag=0)
            await asyncio.sleep(0.001)
        answered = len(broker.cluster.requests(RequestCode.PULL_MESSAGE))
        before = len(client.received)
        client.transport.resume_reading()
        await asyncio.sleep(1)
        assert answered < 50
        assert len(client.received) - before == 50

    with_broker(main)
