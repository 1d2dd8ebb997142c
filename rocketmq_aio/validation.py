"""What may be sent: names, bodies and properties, with Java's limits.

Every refusal names the value, the limit and the remedy. This file knows no connection and no route.

Source: `Validators.java`, `TopicValidator.java`, `Message.putUserProperty` (5.3.3).
Differs: Java lets the separators of the property string through and corrupts it; Java lets messages into the broker's
own timer topic, where one foreign message stops the timer.
"""

from __future__ import annotations

import re
import sys
from datetime import timedelta

from rocketmq_aio.errors import ConfigError, MessageError
from rocketmq_aio.message import Message
from rocketmq_aio.properties import KEYS, PROPERTY_BYTES_MAX, RESERVED_NAMES, TAGS

__all__ = ["check_group", "check_message", "check_topic", "seconds_of", "user_properties"]

TOPIC_CHARACTERS_MAX = 127
GROUP_CHARACTERS_MAX = 120
_NAME = re.compile(r"[%|a-zA-Z0-9_-]+").fullmatch
_ALLOWED = "letters, digits, '_', '-', '%' and '|'"
_FORBIDDEN_TOPICS = frozenset(
    "SCHEDULE_TOPIC_XXXX RMQ_SYS_TRANS_HALF_TOPIC RMQ_SYS_TRANS_OP_HALF_TOPIC TRANS_CHECK_MAX_TIME_TOPIC "
    "SELF_TEST_TOPIC OFFSET_MOVED_EVENT rmq_sys_wheel_timer".split()
)
#: A broker adds properties of its own (5.3.3: 62 bytes, with default names), and the producer its unique id and WAIT.
USER_PROPERTY_BYTES_MAX = PROPERTY_BYTES_MAX - 62 - 80
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def check_topic(topic: object) -> str:
    """The topic's name, if it may be sent to.

    Raises:
        TypeError: it is not a str.
        MessageError: it is blank, too long, has other characters than RocketMQ allows, or belongs to the broker.
    """
    if not isinstance(topic, str):
        raise TypeError(f"A topic must be a str, not {type(topic).__name__}.")
    if not topic.strip():
        raise MessageError(f"The topic {topic!r} is blank.", hint="Give the name of a topic.")
    if len(topic) > TOPIC_CHARACTERS_MAX:
        raise MessageError(
            f"The topic {topic[:40]!r}… has {len(topic)} characters; the limit is {TOPIC_CHARACTERS_MAX}.",
            hint="Use a shorter name.",
        )
    if _NAME(topic) is None:
        raise MessageError(f"The topic {topic!r} has characters that RocketMQ refuses.", hint=f"Use {_ALLOWED}.")
    if topic in _FORBIDDEN_TOPICS:
        raise MessageError(f"The topic {topic} belongs to the broker itself.", hint="Send to a topic of your own.")
    return topic


def check_group(group: object) -> str:
    """The group's name, if it is one.

    Raises:
        TypeError: it is not a str.
        ConfigError: it is blank, too long, reserved, or has other characters than RocketMQ allows.
    """
    if not isinstance(group, str):
        raise TypeError(f"A group must be a str, not {type(group).__name__}.")
    if not group.strip():
        raise ConfigError(f"The group {group!r} is blank.", hint="Give a name by which operators know this producer.")
    if len(group) > GROUP_CHARACTERS_MAX:
        raise ConfigError(
            f"The group {group[:40]!r}… has {len(group)} characters; the limit is {GROUP_CHARACTERS_MAX}.",
            hint="Use a shorter name.",
        )
    if _NAME(group) is None:
        raise ConfigError(f"The group {group!r} has characters that RocketMQ refuses.", hint=f"Use {_ALLOWED}.")
    if group == "DEFAULT_PRODUCER":
        raise ConfigError("The group DEFAULT_PRODUCER is reserved.", hint="Give a name of your own.")
    return group


def check_message(message: Message, bytes_max: int) -> None:
    """Check the topic, the body and the flag of a message.

    Raises:
        MessageError: as the text says.
    """
    check_topic(message.topic)
    size = len(message.body)
    if size == 0:
        raise MessageError(
            "The message body is empty, which the protocol cannot express.", hint="Send at least one byte."
        )
    if size > bytes_max:
        raise MessageError(
            f"The message body has {size:,} bytes; the limit is {bytes_max:,} bytes.",
            hint="Split it, or raise ProducerConfig(max_message_bytes=) together with the broker's maxMessageSize.",
        )
    if not INT32_MIN <= message.flag <= INT32_MAX:
        raise MessageError(f"The flag {message.flag} does not fit 32 bits.", hint="Use a property instead.")


def user_properties(message: Message) -> str:
    """Tag, keys, and the user's own properties of a message, as one property string.

    Raises:
        MessageError: a name is reserved or blank, a value is blank, a character separates properties on the wire or is
            half of a surrogate pair, or all of it is too long.
    """
    pairs: list[tuple[str, str]] = []
    if message.tags:
        pairs.append((TAGS, message.tags))
    if message.keys:
        for key in message.keys:
            if not key or key.split() != [key]:
                raise MessageError(f"The key {key!r} is blank or has blanks in it, which separate keys on the wire.",
                                   hint="Give the keys as a sequence, each without blanks.")
        pairs.append((KEYS, " ".join(message.keys)))
    for name, value in message.properties.items():
        if name in RESERVED_NAMES:
            raise MessageError(
                f"The property name {name} belongs to RocketMQ.", hint="Use tags=, keys= or another name."
            )
        if not name.strip() or not value.strip():
            raise MessageError(
                f"The property {name!r} has a blank name or a blank value, which brokers drop.", hint="Leave it out."
            )
        pairs.append((name, value))
    for name, value in pairs:
        for text in (name, value):
            if "\x01" in text or "\x02" in text:
                raise MessageError(
                    f"{name!r} contains U+0001 or U+0002, which separate properties on the wire.", hint="Remove them."
                )
    string = "".join([f"{name}\x01{value}\x02" for name, value in pairs])
    try:
        size = len(string.encode())
    except UnicodeEncodeError as error:
        raise MessageError(
            f"A tag, key or property contains half of a surrogate pair (U+{ord(string[error.start]):04X}), which UTF-8 "
            "cannot express.", hint="Decode the text properly before sending it.",
        ) from None
    if size > USER_PROPERTY_BYTES_MAX:
        raise MessageError(
            f"Tag, keys and properties have {size:,} bytes; the limit is {USER_PROPERTY_BYTES_MAX:,}.",
            hint="Move data into the body.",
        )
    return string


def seconds_of(name: str, value: object) -> float:
    """A duration given as seconds or as a timedelta, in seconds.

    Raises:
        TypeError: it is neither.
        ConfigError: it is not positive and finite.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name} must be seconds or a timedelta, not {type(value).__name__}.")
    if not 0 < seconds <= sys.float_info.max:
        raise ConfigError(f"{name} must be more than 0 seconds and finite, not {value!r}.")
    return float(seconds)
