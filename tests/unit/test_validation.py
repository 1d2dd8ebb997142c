"""What may be sent: every refusal names the value, the limit and the remedy; Java's own verdicts are the yardstick."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_aio.errors import ConfigError, MessageError, RocketMQError
from rocketmq_aio.message import Message
from rocketmq_aio.properties import PROPERTY_BYTES_MAX, RESERVED_NAMES, decode_properties
from rocketmq_aio.validation import (
    GROUP_CHARACTERS_MAX,
    TOPIC_CHARACTERS_MAX,
    USER_PROPERTY_BYTES_MAX,
    check_group,
    check_message,
    check_topic,
    seconds_of,
    user_properties,
)

NAMES: list[dict[str, Any]] = [
    msgspec.json.decode(line)
    for line in (Path(__file__).parents[1] / "golden" / "names.jsonl").read_bytes().splitlines()
]
TOPICS = [row for row in NAMES if row["kind"] == "topic"]
GROUPS = [row for row in NAMES if row["kind"] == "group"]

#: Groups on which this client differs from Java's: it refuses what Java's client lets through at first.
GROUP_DIFFERENCES = {
    "g" * 121: "Java's client allows 255 characters, and brokers refuse more than 120",
    "g" * 255: "Java's client allows 255 characters, and brokers refuse more than 120",
    "DEFAULT_PRODUCER": "Java refuses it too, but in `DefaultMQProducerImpl.checkConfig`",
}


def refusal(check: Any, *arguments: Any) -> RocketMQError | None:
    """The error of a check, if there is one."""
    try:
        check(*arguments)
    except RocketMQError as error:
        return error
    return None


def name_id(row: Mapping[str, Any]) -> str:
    """A short name for a row, whose names may be long or blank."""
    name = row["name"]
    return f"{name[:20]!r}x{len(name)}" if len(name) > 20 else repr(name)


# --- names


@pytest.mark.parametrize("row", TOPICS, ids=name_id)
def test_topics_are_judged_as_by_java(row: dict[str, Any]) -> None:
    """What Java's client sends to, and nothing else."""
    allowed = row["client_check"] == "ok" and row["client_send_allowed"]
    assert (refusal(check_topic, row["name"]) is None) == allowed


@pytest.mark.parametrize("row", GROUPS, ids=name_id)
def test_groups_are_judged_as_by_java(row: dict[str, Any]) -> None:
    """But for the differences that are listed with their reasons."""
    allowed = row["client_check"] == "ok"
    differs = row["name"] in GROUP_DIFFERENCES
    assert (refusal(check_group, row["name"]) is None) == (allowed != differs)


def test_each_difference_is_in_the_vectors() -> None:
    """The list of differences does not outlive what it excuses."""
    assert set(GROUP_DIFFERENCES) <= {row["name"] for row in GROUPS}


@pytest.mark.parametrize(
    ("topic", "words", "hint"),
    [
        ("", "The topic '' is blank.", "Give the name of a topic."),
        (" \t", r"The topic ' \t' is blank.", "Give the name of a topic."),
        ("t" * 128, f"The topic '{'t' * 40}'… has 128 characters; the limit is 127.", "Use a shorter name."),
        (
            "bad.topic",
            "The topic 'bad.topic' has characters that RocketMQ refuses.",
            "Use letters, digits, '_', '-', '%' and '|'.",
        ),
        ("t\n", r"The topic 't\n' has characters that RocketMQ refuses.", "Use letters, digits,"),
        ("\udc80", r"The topic '\udc80' has characters that RocketMQ refuses.", "Use letters, digits,"),
        ("rmq_sys_wheel_timer", "The topic rmq_sys_wheel_timer belongs to the broker itself.", "of your own"),
        ("TRANS_CHECK_MAX_TIME_TOPIC", "TRANS_CHECK_MAX_TIME_TOPIC belongs to the broker", "of your own"),
    ],
)
def test_a_refused_topic_is_explained(topic: str, words: str, hint: str) -> None:
    """The value, the limit, the remedy; all of it in the text."""
    error = refusal(check_topic, topic)
    assert isinstance(error, MessageError) and isinstance(error, ValueError)
    assert words in error.text and hint in error.hint and error.hint in str(error)


@pytest.mark.parametrize(
    ("group", "words", "hint"),
    [
        ("", "The group '' is blank.", "Give a name by which operators know this producer."),
        ("g" * 121, f"The group '{'g' * 40}'… has 121 characters; the limit is 120.", "Use a shorter name."),
        ("a b", "The group 'a b' has characters that RocketMQ refuses.", "Use letters, digits, '_', '-', '%' and '|'."),
        ("DEFAULT_PRODUCER", "The group DEFAULT_PRODUCER is reserved.", "Give a name of your own."),
    ],
)
def test_a_refused_group_is_explained(group: str, words: str, hint: str) -> None:
    """The value, the limit, the remedy."""
    error = refusal(check_group, group)
    assert isinstance(error, ConfigError) and isinstance(error, ValueError)
    assert error.text == words and error.hint == hint


def test_names_of_the_longest_length_pass_and_come_back() -> None:
    """A check returns what it was given."""
    for check, limit in ((check_topic, TOPIC_CHARACTERS_MAX), (check_group, GROUP_CHARACTERS_MAX)):
        name = "%|-_9Az" * 20
        assert check(name[:limit]) == name[:limit]
        assert refusal(check, name[: limit + 1]) is not None


@pytest.mark.parametrize("value", [None, 5, b"topic", ["topic"]])
def test_names_are_text(value: object) -> None:
    """The wrong type is a `TypeError` that names it."""
    kind = type(value).__name__
    with pytest.raises(TypeError, match=f"A topic must be a str, not {kind}"):
        check_topic(value)
    with pytest.raises(TypeError, match=f"A group must be a str, not {kind}"):
        check_group(value)


# --- messages


@pytest.mark.parametrize(
    ("message", "words", "hint"),
    [
        (Message("bad topic", b"x"), "The topic 'bad topic' has characters", "Use letters"),
        (Message("T", b""), "The message body is empty, which the protocol cannot", "Send at least one byte."),
        (
            Message("T", bytes(5001)),
            "The message body has 5,001 bytes; the limit is 5,000 bytes.",
            "Split it, or raise ProducerConfig(max_message_bytes=) together with the broker's maxMessageSize.",
        ),
        (Message("T", b"x", flag=2**31), "The flag 2147483648 does not fit 32 bits.", "Use a property instead."),
        (Message("T", b"x", flag=-(2**31) - 1), "The flag -2147483649 does not fit 32 bits.", "Use a property"),
    ],
    ids=["topic", "empty", "large", "flag above", "flag below"],
)
def test_a_refused_message_is_explained(message: Message, words: str, hint: str) -> None:
    """The value, the limit, the remedy."""
    error = refusal(check_message, message, 5000)
    assert isinstance(error, MessageError)
    assert error.text.startswith(words) and error.hint.startswith(hint)


def test_messages_at_the_limits_pass() -> None:
    """The limits themselves are allowed."""
    for flag in (-(2**31), 0, 2**31 - 1):
        check_message(Message("T", bytes(5000), flag=flag), 5000)
    check_message(Message("T", b"x"), 1)


# --- properties


def test_the_property_string_has_tag_keys_and_properties_in_order() -> None:
    """Keys are joined by blanks; nothing is written for what is not there."""
    message = Message("T", b"x", tags="red", keys="k1 k2", properties={"b": "2", "a": "1 \x00\n中😀"})
    assert user_properties(message) == "TAGS\x01red\x02KEYS\x01k1 k2\x02b\x012\x02a\x011 \x00\n中😀\x02"
    assert user_properties(Message("T", b"x")) == ""
    assert user_properties(Message("T", b"x", keys=["one"])) == "KEYS\x01one\x02"
    assert decode_properties(user_properties(message)) == {
        "TAGS": "red", "KEYS": "k1 k2", "b": "2", "a": "1 \x00\n中😀",
    }


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_reserved_names_are_refused(name: str) -> None:
    """A user's property with such a name would steer the broker."""
    error = refusal(user_properties, Message("T", b"x", properties={name: "1"}))
    assert isinstance(error, MessageError)
    assert str(error) == f"The property name {name} belongs to RocketMQ. Use tags=, keys= or another name."


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        ({"keys": ["a", "b c"]}, "The key 'b c' is blank or has blanks in it", "Give the keys as a sequence"),
        ({"keys": [""]}, "The key '' is blank", "each without blanks"),
        ({"keys": ["\u3000"]}, r"The key '\u3000' is blank", "each without blanks"),
        ({"keys": ["a\tb"]}, r"The key 'a\tb' is blank or has blanks", "each without blanks"),
        ({"properties": {" ": "v"}}, "The property ' ' has a blank name or a blank value", "Leave it out."),
        ({"properties": {"n": ""}}, "The property 'n' has a blank name or a blank value", "Leave it out."),
        ({"properties": {"n": "\n "}}, "The property 'n' has a blank name or a blank value", "Leave it out."),
        ({"properties": {"n": "a\x01b"}}, "'n' contains U+0001 or U+0002", "Remove them."),
        ({"properties": {"n\x02": "v"}}, r"'n\x02' contains U+0001 or U+0002", "Remove them."),
        ({"tags": "a\x02"}, "'TAGS' contains U+0001 or U+0002", "Remove them."),
        ({"keys": ["a\x01"]}, "'KEYS' contains U+0001 or U+0002", "Remove them."),
        ({"properties": {"n": "a\ud800"}}, "half of a surrogate pair (U+D800)", "Decode the text properly"),
        ({"properties": {"\udfff": "v"}}, "half of a surrogate pair (U+DFFF)", "Decode the text properly"),
        ({"tags": "\udc80"}, "half of a surrogate pair (U+DC80)", "Decode the text properly"),
    ],
)
def test_what_no_property_string_can_hold_is_refused(options: dict[str, Any], words: str, hint: str) -> None:
    """Instead of being cut, dropped or corrupted on the wire; tags and keys travel in the same string."""
    error = refusal(user_properties, Message("T", b"x", **options))
    assert isinstance(error, MessageError)
    assert words in error.text and hint in error.hint


def test_the_length_of_properties_is_counted_in_bytes() -> None:
    """There is room for what the producer and the broker add; characters of several bytes count as such."""
    room = USER_PROPERTY_BYTES_MAX - len("n\x01\x02")
    assert USER_PROPERTY_BYTES_MAX + 142 == PROPERTY_BYTES_MAX == 32_767
    for value in ("v" * room, "中" * (room // 3)):
        user_properties(Message("T", b"x", properties={"n": value}))
        error = refusal(user_properties, Message("T", b"x", properties={"n": value + "中"}))
        assert isinstance(error, MessageError)
        assert "bytes; the limit is 32,625." in error.text and error.hint == "Move data into the body."


def test_errors_never_show_values() -> None:
    """Values may be secret: texts name properties and limits."""
    for value in ("secret\x01", "secret\ud800", "secret" * 10_000):
        error = refusal(user_properties, Message("T", b"x", properties={"name": value}))
        assert error is not None and "secret" not in str(error)


# --- durations


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(1, 1.0), (0.001, 0.001), (timedelta(minutes=2), 120.0), (timedelta(microseconds=1), 1e-6), (10**9, 1e9)],
)
def test_durations_are_seconds_or_timedeltas(value: object, seconds: float) -> None:
    """Always a float afterwards."""
    result = seconds_of("send_timeout", value)
    assert result == seconds and type(result) is float


@pytest.mark.parametrize(
    "value",
    [
        0, -1, 0.0, -0.5, float("inf"), float("nan"), timedelta(0), timedelta(seconds=-1),
        pytest.param(10**400, id="10**400"),
    ],
)
def test_durations_are_positive_and_finite(value: object) -> None:
    """Anything else is refused by name and value; a number beyond floats too."""
    with pytest.raises(ConfigError, match="send_timeout must be more than 0 seconds and finite, not "):
        seconds_of("send_timeout", value)
    assert seconds_of("send_timeout", sys.float_info.max) == sys.float_info.max


@pytest.mark.parametrize("value", [True, "3", None, 3j])
def test_durations_are_numbers(value: object) -> None:
    """A bool is none, although Python says so."""
    with pytest.raises(TypeError, match="send_timeout must be seconds or a timedelta, not "):
        seconds_of("send_timeout", value)
