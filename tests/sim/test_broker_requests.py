"""A simulated broker answers sends and administrative requests as 5.3.3 does: raw frames in, raw frames out."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from broker_sim.config import BrokerConfig
from broker_sim.requests.answer import Route
from rocketmq_aio.codes import RequestCode, ResponseCode, SerializeType
from rocketmq_aio.message import MessageExt
from rocketmq_aio.wire.batch import encode_batch
from rocketmq_aio.wire.headers import UnregisterClientRequestHeader
from tests.support.brokers import UNIQUE_ID, Broker, send_fields, with_broker
from tests.support.raw_client import RawClient

ADDED = {"MSG_REGION": "DefaultRegion", "TRACE_ON": "true", "CLUSTER": "DefaultCluster"}
ERROR_FIELDS = {"TRACE_ON": "true", "MSG_REGION": "DefaultRegion"}
ILLEGAL = "the message is illegal, maybe msg body or properties length not matched."


def only(broker: Broker) -> MessageExt:
    (message,) = broker.cluster.messages("T")
    return message


def test_message_is_stored_and_acknowledged() -> None:
    """Everything that the header says is in the record; the answer says where that is."""

    async def main(broker: Broker) -> None:
        answer = await broker.send(b"one", h="-7", f="2")
        second = await broker.send(b"two")
        port = int(broker.cluster.broker("broker-a").address.rpartition(":")[2])
        assert (answer.code, answer.remark, answer.body, answer.version, answer.language) == (0, None, b"", 479, 0)
        assert answer.ext_fields == {
            "queueId": "2", "transactionId": UNIQUE_ID, "msgId": f"7F000001{port:08X}{0:016X}", "TRACE_ON": "true",
            "MSG_REGION": "DefaultRegion", "queueOffset": "0",
        }  # fmt: skip
        first, other = broker.cluster.messages("T")
        assert (first.body, first.flag, first.sys_flag) == (b"one", -7, 2)
        assert (first.queue_offset, first.physical_offset) == (0, 0)
        assert (first.born_timestamp_ms, first.reconsume_times, first.queue.queue_id) == (1795497037711, 0, 2)
        assert first.born_host == f"127.0.0.1:{broker.client.transport.get_extra_info('sockname')[1]}"
        assert first.store_host == f"127.0.0.1:{port}"
        assert (first.message_id, first.offset_message_id) == (UNIQUE_ID, answer.ext_fields["msgId"])
        assert second.ext_fields is not None
        assert other.offset_message_id == second.ext_fields["msgId"]
        assert other.queue_offset == 1 and other.physical_offset > 0

    with_broker(main)


def test_long_names_are_read_too() -> None:
    """SEND_MESSAGE (10) has other names for the same fields, and the same answer."""

    async def main(broker: Broker) -> None:
        fields = {
            "producerGroup": "group", "topic": "T", "defaultTopic": "TBW102", "defaultTopicQueueNums": 4, "queueId": 1,
            "sysFlag": 0, "bornTimestamp": 5, "flag": 3, "properties": "TAGS\x01A\x02", "reconsumeTimes": 0,
            "unitMode": "false", "batch": "false", "bname": "broker-a",
        }  # fmt: skip
        answer = await broker.call(RequestCode.SEND_MESSAGE, fields, b"x")
        message = only(broker)
        assert answer.code == 0
        assert (message.queue.queue_id, message.flag, message.born_timestamp_ms, message.tags) == (1, 3, 5, "A")

    with_broker(main)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (f"UNIQ_KEY\x01{UNIQUE_ID}\x02WAIT\x01true\x02", {"UNIQ_KEY": UNIQUE_ID, "WAIT": "true"}),
        (f"a\x01b\x02UNIQ_KEY\x01{UNIQUE_ID}\x02c\x01d", {"a": "b", "UNIQ_KEY": UNIQUE_ID, "c": "d"}),
        (f"UNIQ_KEY\x01{UNIQUE_ID}", {"UNIQ_KEY": UNIQUE_ID}),
        (f"MSG_REGION\x01mine\x02UNIQ_KEY\x01{UNIQUE_ID}\x02CLUSTER\x01c\x02", {"UNIQ_KEY": UNIQUE_ID}),
        (f"UNIQ_KEY\x01{UNIQUE_ID}\x02POP_CK\x01gone\x02DELAY\x010\x02", {"UNIQ_KEY": UNIQUE_ID, "DELAY": "0"}),
        (f"UNIQ_KEY\x01first\x02UNIQ_KEY\x01{UNIQUE_ID}\x02", {"UNIQ_KEY": UNIQUE_ID}),
        (f"NO_UNIQ_KEY\x01x\x02UNIQ_KEY\x01{UNIQUE_ID}\x02", {"NO_UNIQ_KEY": "x", "UNIQ_KEY": UNIQUE_ID}),
    ],
    ids=["plain", "others-around", "no-last-mark", "own-names", "pop-receipt", "twice", "similar-name"],
)  # fmt: skip
def test_stored_properties(sent: str, stored: dict[str, str]) -> None:
    """The broker's own properties are added, win over the sender's, and the sender's others stay."""

    async def main(broker: Broker) -> None:
        for _ in range(2):  # the second time from the cache of known combinations
            answer = await broker.send(i=sent)
            assert answer.ext_fields is not None
            assert answer.ext_fields["transactionId"] == UNIQUE_ID
        for message in broker.cluster.messages("T"):
            assert message.properties == stored | ADDED

    with_broker(main)


@pytest.mark.parametrize("properties", [None, "", "TAGS\x01A\x02", "UNIQ_KEY\x01\x02"])
def test_unique_id_is_made_where_there_is_none(properties: str | None) -> None:
    """5.x gives an id to a message without one, and says so in the answer."""

    async def main(broker: Broker) -> None:
        answers = [await broker.send(i=properties) for _ in range(2)]
        ids = [message.properties["UNIQ_KEY"] for message in broker.cluster.messages("T")]
        assert [answer.ext_fields and answer.ext_fields["transactionId"] for answer in answers] == ids
        assert len(set(ids)) == 2 and all(len(one) == 32 for one in ids)

    with_broker(main)


REFUSED: list[Any] = [
    pytest.param({"b": "No", "c": "No"}, b"x", 17, "topic[No] not exist, apply first please!\nSee ", id="unknown"),
    pytest.param({"b": "bad topic"}, b"x", 29, "The specified topic contains illegal characters, ", id="illegal-name"),
    pytest.param({"b": "t" * 128}, b"x", 29, "The specified topic is longer than topic max length.", id="long-name"),
    pytest.param({"b": "SELF_TEST_TOPIC"}, b"x", 16, "Sending message to topic[SELF_TEST_TOPIC] is f", id="forbidden"),
    pytest.param({"e": "4"}, b"x", 29, "request queueId[4] is illegal, TopicConfig [topicName=T, readQ", id="queue-id"),
    pytest.param({}, bytes(4 * 1024 * 1024 + 1), 13, ILLEGAL, id="body-too-large"),
    pytest.param({"i": "k\x01" + "v" * 32_704 + "\x02"}, b"x", 13, ILLEGAL, id="properties-too-long"),
    pytest.param({"i": "k\x01" + "€" * 10_923 + "\x02"}, b"x", 13, ILLEGAL, id="properties-too-long-in-utf8"),
    pytest.param({"i": "DELAY\x013\x02"}, b"x", 3, " delayed messages are not simulated", id="delayed"),
    pytest.param({"i": "TIMER_DELAY_MS\x015\x02"}, b"x", 3, " delayed messages are not simulated", id="timer"),
    pytest.param({"i": "TRAN_MSG\x01true\x02"}, b"x", 3, " transactional messages are not simulated", id="transaction"),
]


@pytest.mark.parametrize(("changes", "body", "code", "remark"), REFUSED)
def test_refused_sends(changes: dict[str, str], body: bytes, code: int, remark: str) -> None:
    """Each has the broker's code and words; region and trace flag go with it, and nothing is stored."""

    async def main(broker: Broker) -> None:
        answer = await broker.send(body, **changes)
        assert (answer.code, answer.ext_fields) == (code, ERROR_FIELDS)
        assert answer.remark is not None and answer.remark.startswith(remark)
        assert broker.cluster.broker("broker-a").store.physical_offset == 0

    with_broker(main)


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({}, b""),
        *[({letter: None}, b"x") for letter in "befgh"],
        ({"e": "zero"}, b"x"),
        ({"i": "DELAY\x01abc\x02"}, b"x"),
    ],
    ids=["no-body", "topic", "queue", "sys-flag", "born", "flag", "no-number", "delay-no-number"],
)
def test_broken_sends(changes: dict[str, Any], body: bytes) -> None:
    """Where Java throws, the answer is SYSTEM_ERROR without ext fields."""

    async def main(broker: Broker) -> None:
        answer = await broker.send(body, **changes)
        assert (answer.code, answer.ext_fields) == (ResponseCode.SYSTEM_ERROR, None)
        assert broker.cluster.messages("T") == []

    with_broker(main)


def test_fields_that_nobody_misses() -> None:
    """Group, default topic, properties and the switches may be missing."""

    async def main(broker: Broker) -> None:
        answer = await broker.send(**dict.fromkeys("acdijkmn"))
        assert answer.code == 0
        assert only(broker).properties.keys() == {"UNIQ_KEY", *ADDED}

    with_broker(main)


def test_largest_message() -> None:
    """A body of exactly the limit, and the longest properties that a client can send, are stored."""

    async def main(broker: Broker) -> None:
        id_size = len(f"UNIQ_KEY\x01{UNIQUE_ID}\x02")
        properties = f"UNIQ_KEY\x01{UNIQUE_ID}\x02k\x01" + "v" * (32_705 - id_size - 3) + "\x02"
        assert (await broker.send(bytes(4 * 1024 * 1024), i=properties)).code == 0
        assert (await broker.send(b"x", i=properties.replace("v", "vv", 1))).code == 13
        assert len(only(broker).body) == 4 * 1024 * 1024

    with_broker(main)


def test_negative_queue_id_is_any_queue() -> None:
    """The broker draws a queue to write to; the same seed draws the same."""
    drawn: list[list[str]] = []

    async def main(broker: Broker) -> None:
        answers = [await broker.send(e=queue_id) for queue_id in ("-1", "-9") * 20]
        drawn.append([(answer.ext_fields or {})["queueId"] for answer in answers])

    for seed in (1, 1, 2):
        with_broker(main, seed=seed)
    assert set(drawn[0]) == {"0", "1", "2", "3"}
    assert drawn[0] == drawn[1] != drawn[2]


def test_queues_to_read_from_count_too() -> None:
    """A queue id is legal up to the larger of both counts; without queues to write to there is none to draw."""

    async def main(broker: Broker) -> None:
        fields = {"topic": "R", "readQueueNums": 3, "writeQueueNums": 0, "perm": 4, "topicFilterType": "SINGLE_TAG"}
        assert (await broker.call(RequestCode.UPDATE_AND_CREATE_TOPIC, fields)).code == 0
        assert (await broker.send(b="R", e="2")).code == 0
        assert (await broker.send(b="R", e="3")).code == 29
        assert (await broker.send(b="R", e="-1")).code == 1

    with_broker(main)


def test_oneway_sends_are_stored_and_not_answered() -> None:
    """Nothing comes back for a one-way request: not for a good one, a refused one, a broken one or an unknown one."""

    async def main(broker: Broker) -> None:
        for fields in (send_fields(), send_fields(b="nowhere"), send_fields(e=None)):
            broker.client.post(RequestCode.SEND_MESSAGE_V2, fields, b"x")
        broker.client.post(9999)
        assert (await broker.send(b"last")).code == 0
        assert [message.body for message in broker.cluster.messages("T")] == [b"x", b"last"]
        assert len(broker.client.received) == 1
        replies = [exchange.reply for exchange in broker.cluster.requests(RequestCode.SEND_MESSAGE_V2, 9999)]
        assert replies[:4] == [None] * 4

    with_broker(main)


BATCH = encode_batch([(1, b"first", "UNIQ_KEY\x01A\x02WAIT\x01true\x02"), (2, b"second", "k\x01v"), (3, b"third", "")])


@pytest.mark.parametrize("code", [RequestCode.SEND_BATCH_MESSAGE, RequestCode.SEND_MESSAGE_V2])
def test_batch(code: int) -> None:
    """The flag makes a batch, whatever the code: a record for each message, the batch's properties behind its own."""

    async def main(broker: Broker) -> None:
        answer = await broker.send(BATCH, code=code, m="true", i="WAIT\x01false\x02")
        messages = broker.cluster.messages("T")
        assert answer.ext_fields == {
            "queueId": "2", "msgId": ",".join(message.offset_message_id for message in messages), "TRACE_ON": "true",
            "MSG_REGION": "DefaultRegion", "queueOffset": "0",
        }  # fmt: skip
        assert [(message.body, message.flag, message.queue_offset) for message in messages] == [
            (b"first", 1, 0), (b"second", 2, 1), (b"third", 3, 2),
        ]  # fmt: skip
        own: list[dict[str, str]] = [{"UNIQ_KEY": "A"}, {"k": "v"}, {}]
        assert [message.properties for message in messages] == [{"WAIT": "false"} | one | ADDED for one in own]
        offsets = [message.physical_offset for message in messages]
        assert offsets == sorted(offsets) and offsets[0] == 0

    with_broker(main)


def test_batch_with_an_id_of_its_own() -> None:
    """Up to 5.3.3 the batch's unique id becomes that of every message in it."""

    async def main(broker: Broker) -> None:
        answer = await broker.send(BATCH, m="true")
        assert answer.ext_fields is not None
        assert answer.ext_fields["transactionId"] == UNIQUE_ID
        assert [message.message_id for message in broker.cluster.messages("T")] == [UNIQUE_ID] * 3

    with_broker(main)


def test_batch_code_without_the_flag_is_one_message() -> None:
    """SEND_BATCH_MESSAGE without the flag stores the batch's bytes as one body."""

    async def main(broker: Broker) -> None:
        assert (await broker.send(BATCH, code=RequestCode.SEND_BATCH_MESSAGE)).code == 0
        assert only(broker).body == BATCH

    with_broker(main)


@pytest.mark.parametrize(
    ("changes", "body", "code", "remark"),
    [
        ({}, b"garbage", 1, "The message at byte 0 of the batch is broken"),
        ({}, BATCH[:-1], 1, "The message at byte"),
        ({"f": "4"}, BATCH, 13, ILLEGAL),
        ({"i": "DELAY\x013\x02"}, BATCH, 13, ILLEGAL),
        ({"i": "TIMER_DELIVER_MS\x013\x02"}, BATCH, 3, " delayed messages are not simulated"),
        ({"b": "%RETRY%g"}, BATCH, 13, "batch request does not support retry group %RETRY%g"),
        ({}, encode_batch([(0, bytes(3_000_000), "")] * 2), 1, "java.lang.RuntimeException: message size exceeded"),
    ],
    ids=["garbage", "cut-off", "transaction", "delayed", "timer", "retry-topic", "too-large"],
)
def test_refused_batches(changes: dict[str, str], body: bytes, code: int, remark: str) -> None:
    """A batch is stored whole or not at all."""

    async def main(broker: Broker) -> None:
        broker.cluster.create_topic("%RETRY%g")
        answer = await broker.send(body, m="true", **changes)
        assert (answer.code, answer.ext_fields) == (code, None if code == 1 else ERROR_FIELDS)
        assert answer.remark is not None and answer.remark.startswith(remark)
        assert broker.cluster.broker("broker-a").store.physical_offset == 0

    with_broker(main)


def test_unknown_request_codes() -> None:
    """The answer names the code, whatever it is and in whatever form the request came."""

    async def main(broker: Broker) -> None:
        for code, form in ((9999, 0), (-5, 0), (99_999_999, 0), (9999, 1)):
            answer = await broker.call(code, serialize_type=form)
            assert (answer.code, answer.ext_fields, answer.serialize_type) == (3, None, SerializeType.JSON)
            assert answer.remark == f" request type {code} not supported"

    with_broker(main)


def test_headers_in_the_binary_form() -> None:
    """A binary request gets a JSON answer, and a binary answer from a broker that is configured for it."""

    async def main(broker: Broker) -> None:
        for fields, code in ((send_fields(), 0), (send_fields(b="nowhere", c="None"), 17)):
            answer = await broker.call(RequestCode.SEND_MESSAGE_V2, fields, b"x", serialize_type=1)
            assert (answer.code, answer.serialize_type) == (code, forms[-1])

    forms = [SerializeType.JSON]
    with_broker(main)
    forms.append(SerializeType.ROCKETMQ)
    with_broker(main, brokers=[BrokerConfig(serialize_type=SerializeType.ROCKETMQ)])


def test_a_bug_in_a_handler_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """An exception becomes SYSTEM_ERROR and a log entry; the connection lives on."""

    def broken(*_: object) -> Any:
        raise RuntimeError("no such luck")

    async def main(broker: Broker) -> None:
        core = broker.cluster._servers.brokers["broker-a"].endpoint.core
        core.handlers = core.handlers | {35: Route(UnregisterClientRequestHeader, broken)}
        async with RawClient(broker.cluster.environment, broker.cluster.broker("broker-a").address) as client:
            answer = await client.call(35, {})
            assert (answer.code, answer.remark) == (1, "RuntimeError: no such luck")
            client.post(35, {})
            assert (await client.call(34, {}, b'{"clientID":"x"}')).code == 0
            assert len(client.received) == 2

    with caplog.at_level(logging.ERROR, "broker_sim"):
        with_broker(main)
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_fields_that_are_none(caplog: pytest.LogCaptureFixture) -> None:
    """A header whose ext fields are no object closes the connection, as what cannot be decoded does."""

    async def main(broker: Broker) -> None:
        header = b'{"code":310,"extFields":[1],"flag":0,"opaque":1}'
        frame = (len(header) + 4).to_bytes(4, "big") + len(header).to_bytes(4, "big") + header
        async with RawClient(broker.cluster.environment, broker.cluster.broker("broker-a").address) as client:
            with pytest.raises(ConnectionResetError):
                await client.exchange(frame, 1)
        assert (await broker.send()).code == 0

    with caplog.at_level(logging.WARNING, "broker_sim"):
        with_broker(main)
    assert "broker-a closes the connection of client" in caplog.text


def test_many_combinations_of_properties(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of combinations of properties is bounded, and nobody sees it being forgotten."""

    async def main(broker: Broker) -> None:
        for number in range(20):
            await broker.send(i=f"UNIQ_KEY\x01{UNIQUE_ID}\x02k\x01{number}\x02")
        assert [message.properties["k"] for message in broker.cluster.messages("T")] == [str(n) for n in range(20)]
        assert len(broker.cluster._servers.brokers["broker-a"].state.sending.plain) <= 3

    monkeypatch.setattr("broker_sim.requests.send._PLAIN_MAX", 3)
    with_broker(main)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"producerDataSet":[]}', b"[1]", b"garbage"])
def test_heartbeats_without_a_client(body: bytes) -> None:
    """A heartbeat must say whose it is."""

    async def main(broker: Broker) -> None:
        assert (await broker.call(RequestCode.HEART_BEAT, {}, body)).code == 1

    with_broker(main)


def test_heartbeat_and_unregistering() -> None:
    """Clients are members of their groups until they leave or their connection is gone; answers have 5.x's fields."""

    async def main(broker: Broker) -> None:
        clients = broker.cluster._servers.brokers["broker-a"].state.clients
        body = (
            b'{"clientID":"me","producerDataSet":[{"groupName":"P"}],"consumerDataSet":[{"groupName":"C",'
            b'"subscriptionDataSet":[{"topic":"T","subString":"*","subVersion":5}]},{"groupName":"bad.name"}]}'
        )
        answer = await broker.call(RequestCode.HEART_BEAT, {}, body)
        assert (answer.code, answer.version) == (0, 479)
        assert answer.ext_fields == {"IS_SUPPORT_HEART_BEAT_V2": "true", "IS_SUB_CHANGE": "true"}
        async with RawClient(broker.cluster.environment, broker.cluster.broker("broker-a").address) as other:
            assert (await other.call(RequestCode.HEART_BEAT, {}, body)).code == 0
            assert list(clients.producers["P"].values()) == list(clients.consumers["C"].members.values()) == ["me"] * 2
        await broker.call(RequestCode.GET_MAX_OFFSET, {})  # by then the broker knows of the lost connection
        assert list(clients.producers["P"].values()) == ["me"]
        fields = {"clientID": "me", "producerGroup": "P", "consumerGroup": "C"}
        answer = await broker.call(RequestCode.UNREGISTER_CLIENT, fields)
        assert (answer.code, answer.ext_fields) == (0, {})
        assert (clients.producers, clients.consumers) == ({}, {})
        assert (await broker.call(RequestCode.UNREGISTER_CLIENT, fields)).code == 0

    with_broker(main)


def test_heartbeats_of_the_second_kind() -> None:
    """With a fingerprint the broker asks for the subscriptions only when they have changed, and keeps those it has."""

    async def main(broker: Broker) -> None:
        def beat(fingerprint: int, subscriptions: str | None) -> bytes:
            data = "" if subscriptions is None else f',"subscriptionDataSet":[{{"topic":"{subscriptions}"}}]'
            return (
                f'{{"clientID":"me","heartbeatFingerprint":{fingerprint},"withoutSub":'
                f'{"true" if subscriptions is None else "false"},"consumerDataSet":[{{"groupName":"C"{data}}}]}}'
            ).encode()

        changes = []
        for body in (beat(7, "T"), beat(7, None), beat(8, None), beat(8, "U"), beat(8, None)):
            answer = await broker.call(RequestCode.HEART_BEAT, {}, body)
            changes.append((answer.ext_fields or {})["IS_SUB_CHANGE"])
        assert changes == ["true", "false", "true", "true", "false"]
        assert list(broker.cluster._servers.brokers["broker-a"].state.clients.consumers["C"].subscriptions) == ["U"]

    with_broker(main)
