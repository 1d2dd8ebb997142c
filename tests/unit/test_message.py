"""Messages, results and queues: types are checked, nothing can change, everything can be pickled."""

from __future__ import annotations

import array
import copy
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from rocketmq_aio.errors import NotDurableError, NoWritableQueueError
from rocketmq_aio.message import Message, MessageExt, MessageQueue, SendAttempt, SendResult, SendStatus

QUEUE = MessageQueue("Orders", "broker-a", 3)
PROPERTIES = {"colour": "blue", "size": "XL"}


def result(status: SendStatus = SendStatus.SEND_OK) -> SendResult:
    return SendResult(
        status=status, message_id="UNIQUE", offset_message_id="OFFSET", queue=QUEUE, queue_offset=17, transaction_id="",
        recall_handle="", region_id="DefaultRegion", attempt_count=2, elapsed=0.25,
    )  # fmt: skip


def stored(**changes: Any) -> MessageExt:
    """A message as a broker stores it."""
    fields: dict[str, Any] = {
        "topic": "Orders", "body": b"hello", "flag": 0, "queue": QUEUE, "queue_offset": 17, "physical_offset": 1024,
        "property_string": "KEYS\x01k1 k2\x02UNIQ_KEY\x01UNIQUE\x02TAGS\x01a\x02WAIT\x01false\x02",
        "offset_message_id": "OFFSET", "reconsume_times": 0, "born_timestamp_ms": 1_700_000_000_123,
        "store_timestamp_ms": 1_700_000_000_456, "born_host": "127.0.0.1:5", "store_host": "127.0.0.1:10911",
        "body_crc": 1, "sys_flag": 0, "prepared_transaction_offset": 0,
    }  # fmt: skip
    return MessageExt(**fields | changes)


MESSAGES = [
    Message("Orders", b"hello"),
    Message("Orders", b"hello", tags="a", keys=["k1", "k2"], properties=PROPERTIES, wait_store_ok=False, flag=-1),
]


def test_defaults() -> None:
    """A topic and a body are enough."""
    message = Message("Orders", b"hello")
    assert (message.topic, message.body) == ("Orders", b"hello")
    assert (message.tags, message.keys, message.properties) == ("", (), {})
    assert (message.wait_store_ok, message.flag) == (True, 0)


@pytest.mark.parametrize(
    "body",
    [bytearray(b"hello"), memoryview(b"hello"), memoryview(b"_hello_")[1:6], memoryview(b"h_e_l_l_o")[::2],
     array.array("B", b"hello")],
)  # fmt: skip
def test_body_from_a_buffer(body: Any) -> None:
    """Anything bytes-like is copied into `bytes`; what the caller does with it later does not matter."""
    message = Message("Orders", body)
    assert type(message.body) is bytes
    if isinstance(body, bytearray):
        body[0] = 0
    assert message.body == b"hello"


def test_bytes_are_not_copied() -> None:
    """A body of `bytes` is kept as it is."""
    body = bytes(1000)
    assert Message("Orders", body, tags="a").body is body


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"body": "hello"}, r"body must be bytes, not str\. Encode it first"),
        ({"body": 5}, "body must be bytes or bytes-like, not int"),
        ({"body": None}, "body must be bytes or bytes-like, not NoneType"),
        ({"topic": b"Orders"}, "topic must be a str, not bytes"),
        ({"tags": None}, "tags must be a str, not NoneType"),
        ({"keys": b"k1"}, "keys must be a str or a sequence of str, not bytes"),
        ({"keys": {"k1"}}, "keys must be a str or a sequence of str, not set"),
        ({"keys": [b"k1"]}, "each of keys must be a str, not bytes"),
        ({"properties": [("a", "b")]}, "properties must be a mapping of str to str, not list"),
        ({"properties": {1: "b"}}, "names of properties must be str, not int"),
        ({"properties": {"a": 1}}, "property 'a' must be a str, not int"),
        ({"wait_store_ok": 1}, "wait_store_ok must be a bool, not int"),
        ({"flag": True}, "flag must be an int, not bool"),
        ({"flag": 1.0}, "flag must be an int, not float"),
    ],
)
def test_wrong_types(arguments: dict[str, Any], words: str) -> None:
    """A value of the wrong type is a TypeError that names the argument and both types."""
    with pytest.raises(TypeError, match=words):
        Message(**{"topic": "Orders", "body": b"hello"} | arguments)


def test_secrets_stay_out_of_errors() -> None:
    """The text of a property or body is not quoted: it may be anything."""
    with pytest.raises(TypeError) as caught:
        Message("Orders", "secret")  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
    with pytest.raises(TypeError) as caught:
        Message("Orders", b"x", properties={"a": b"secret"})  # type: ignore[dict-item]
    assert "secret" not in str(caught.value)


def test_options_have_names() -> None:
    """Only topic and body go by position."""
    with pytest.raises(TypeError):
        Message("Orders", b"hello", "tag")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [("", ()), ("k1", ("k1",)), ("k1 k2", ("k1", "k2")), (["k1", "k2"], ("k1", "k2")), (("k1",), ("k1",)), ([], ())],
)
def test_keys(keys: Any, expected: tuple[str, ...]) -> None:
    """Keys are given as one string with blanks between them, or as a sequence; they become a tuple."""
    assert Message("Orders", b"x", keys=keys).keys == expected


@pytest.mark.parametrize("given", [{}, {"a": "b"}])
def test_properties_are_copied(given: dict[str, str]) -> None:
    """What the caller does with the mapping later, empty or not, does not change the message."""
    for handed in (given, MappingProxyType(given)):
        message, before = Message("Orders", b"x", properties=handed), dict(given)
        given["later"] = "yes"
        assert message.properties == before
        del given["later"]


def test_properties_may_be_none() -> None:
    """None means none, as it does in many callers' signatures."""
    assert Message("Orders", b"x", properties=None).properties == {}  # type: ignore[arg-type]


@pytest.mark.parametrize("message", MESSAGES, ids=["plain", "full"])
def test_message_is_frozen(message: Message) -> None:
    """Neither fields nor properties can be changed."""
    with pytest.raises(AttributeError):
        message.topic = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        message.properties["a"] = "b"  # type: ignore[index]


@pytest.mark.parametrize("message", MESSAGES, ids=["plain", "full"])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_message_is_pickled_and_copied(message: Message, protocol: int) -> None:
    """A message comes back equal from a pickle, a copy, a deep copy and a replacement, frozen as before."""
    twin = pickle.loads(pickle.dumps(message, protocol))
    for other in (twin, copy.copy(message), copy.deepcopy(message), msgspec.structs.replace(message)):
        assert other == message
        assert type(other) is Message
        assert isinstance(other.properties, Mapping)
        assert not isinstance(other.properties, dict)


def test_replacing_checks_again() -> None:
    """`msgspec.structs.replace` checks and copies like the constructor."""
    assert msgspec.structs.replace(MESSAGES[1], body=bytearray(b"new")).body == b"new"
    with pytest.raises(TypeError, match="tags must be a str"):
        msgspec.structs.replace(MESSAGES[0], tags=1)


def test_queue_is_a_key_and_ordered() -> None:
    """Equal queues have equal hashes; they sort by topic, broker and number."""
    queues = [MessageQueue(topic, broker, number) for topic in "ab" for broker in "xy" for number in (2, 10)]
    assert sorted(queues[4:] + queues[:4]) == queues
    assert len({*queues, *(MessageQueue(queue.topic, queue.broker_name, queue.queue_id) for queue in queues)}) == 8
    assert {QUEUE: 1}[MessageQueue("Orders", "broker-a", 3)] == 1
    with pytest.raises(AttributeError):
        QUEUE.queue_id = 4  # type: ignore[misc]


def test_statuses_are_response_codes() -> None:
    """The values are those of the broker's answer."""
    assert {status.name: status.value for status in SendStatus} == {
        "SEND_OK": 0, "FLUSH_DISK_TIMEOUT": 10, "SLAVE_NOT_AVAILABLE": 11, "FLUSH_SLAVE_TIMEOUT": 12,
    }  # fmt: skip


def test_result_that_is_ok() -> None:
    """A result that is ok returns itself from `raise_for_status`."""
    done = result()
    assert done.ok
    assert done.raise_for_status() is done


@pytest.mark.parametrize("status", [status for status in SendStatus if status is not SendStatus.SEND_OK])
def test_result_that_is_not_durable(status: SendStatus) -> None:
    """Any other status raises an error that says where the message is, and carries the result through a pickle."""
    done = result(status)
    assert not done.ok
    with pytest.raises(NotDurableError, match="Orders at broker-a, queue 3, offset 17") as caught:
        done.raise_for_status()
    assert status.name in str(caught.value)
    assert caught.value.maybe_stored
    assert not caught.value.retryable
    assert pickle.loads(pickle.dumps(caught.value)).result == done


def test_results_and_attempts_are_pickled() -> None:
    """Results, queues and attempts, with their errors, come back from a pickle; results and queues equal."""
    for value in (QUEUE, result()):
        assert pickle.loads(pickle.dumps(value)) == value
    attempt = SendAttempt(QUEUE, "127.0.0.1:10911", 0.0, 0.1, NoWritableQueueError("No queue.", topic="Orders"))
    twin = pickle.loads(pickle.dumps(attempt))
    assert (twin.queue, twin.address, twin.error.topic) == (QUEUE, "127.0.0.1:10911", "Orders")


def test_stored_message_reads_like_a_message() -> None:
    """Tags, keys, properties and ids come from the property string; times are aware."""
    message = stored()
    assert (message.tags, message.keys, message.wait_store_ok) == ("a", ("k1", "k2"), False)
    assert message.properties == {"KEYS": "k1 k2", "UNIQ_KEY": "UNIQUE", "TAGS": "a", "WAIT": "false"}
    assert message.message_id == "UNIQUE"
    assert message.born_at == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
    assert message.stored_at == datetime(2023, 11, 14, 22, 13, 20, 456_000, UTC)


def test_stored_message_without_properties() -> None:
    """Without properties there are no tags and keys, waiting is on, and the offset id is the message's, as in Java."""
    message = stored(property_string="")
    assert (message.tags, message.keys, message.wait_store_ok) == ("", (), True)
    assert message.message_id == "OFFSET"


def test_properties_are_decoded_on_first_use() -> None:
    """The property string is split when somebody asks, and only once."""
    message = stored()
    assert "properties" not in vars(message)
    first = message.properties
    assert message.properties is first
    assert vars(message) == {"properties": first}


def test_stored_message_is_frozen_and_pickled() -> None:
    """A stored message can be compared, pickled and copied, its properties decoded or not, and not changed."""
    message = stored()
    for _ in range(2):
        for other in (pickle.loads(pickle.dumps(message)), copy.copy(message), copy.deepcopy(message)):
            assert other == message == stored()
            assert other.properties == stored().properties
        _ = message.properties
    with pytest.raises(AttributeError):
        message.topic = "other"  # type: ignore[misc]


@pytest.mark.parametrize("ms", [0, -1, 253_402_300_799_999])
def test_extreme_times(ms: int) -> None:
    """The first instant, one before it and the last that a datetime can express are exact."""
    message = stored(born_timestamp_ms=ms)
    assert (message.born_at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() == ms / 1000
