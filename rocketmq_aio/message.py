"""The values that users hold: a message to send, a message that was stored, queues, results and attempts.

All are frozen. This file knows no bytes of the wire and does no I/O.

Source: `Message.java`, `MessageExt.java`, `MessageQueue.java`, `SendResult.java`, `SendStatus.java` (5.3.3).
Differs: Java changes the caller's message while it sends it; here it never changes and may be sent twice.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import force_setattr

from rocketmq_aio.errors import NotDurableError, RocketMQError
from rocketmq_aio.properties import KEYS, RESERVED_NAMES, TAGS, UNIQ_KEY, WAIT, decode_properties

__all__ = ["Message", "MessageExt", "MessageQueue", "SendAttempt", "SendResult", "SendStatus"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_NO_KEYS: tuple[str, ...] = ()  # there is one empty tuple only
_NO_PROPERTIES: Mapping[str, str] = MappingProxyType({})


class _TopicAndBody(msgspec.Struct, frozen=True):
    topic: str
    body: bytes


class Message(_TopicAndBody, frozen=True, kw_only=True):
    """A message to send.

    Making one checks types; sending it checks the rest (lengths, characters, reserved names), because only the
    producer knows the limits.

    Args:
        topic: the topic's name.
        body: the content: `bytes`, or anything bytes-like, which is copied once. Not empty.
        tags: one tag, by which consumers can filter; empty for none.
        keys: business keys by which the message can be found: one string with blanks between the keys, or a sequence.
        properties: the user's own properties. Copied.
        wait_store_ok: the broker answers only once the message is flushed and replicated as it is configured to.
        flag: an integer of 32 bits that travels with the message and means nothing to RocketMQ.

    Raises:
        TypeError: an argument has the wrong type; the text names it.
    """

    tags: str = ""
    keys: Sequence[str] = ()
    properties: Mapping[str, str] = _NO_PROPERTIES
    wait_store_ok: bool = True
    flag: int = 0

    if TYPE_CHECKING:  # what it takes is more than what it holds

        def __init__(
            self,
            topic: str,
            body: bytes | bytearray | memoryview,
            *,
            tags: str = "",
            keys: str | Sequence[str] = (),
            properties: Mapping[str, str] | None = None,
            wait_store_ok: bool = True,
            flag: int = 0,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Check types, copy what the caller could change later."""
        # The common case in one expression: this runs for every message.
        if (
            type(self.topic) is str
            and type(self.body) is bytes
            and self.keys is _NO_KEYS
            and self.properties is _NO_PROPERTIES
            and type(self.tags) is str
            and type(self.flag) is int
            and type(self.wait_store_ok) is bool
        ):
            return
        _check_type("topic", self.topic, str, "a str")
        _check_type("tags", self.tags, str, "a str")
        _check_type("wait_store_ok", self.wait_store_ok, bool, "a bool")
        if isinstance(self.flag, bool) or not isinstance(self.flag, int):
            raise TypeError(f"Message: flag must be an int, not {type(self.flag).__name__}.")
        force_setattr(self, "body", _copy_body(self.body))
        force_setattr(self, "keys", _copy_keys(self.keys))
        force_setattr(self, "properties", _copy_properties(self.properties))

    def __hash__(self) -> int:
        """Equal messages have equal hashes. (The properties' read-only view has none.)"""
        return hash((self.topic, self.body, self.tags, tuple(self.keys), self.flag))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy without the read-only view of the properties, which cannot be pickled."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return _restore_message, (type(self), values | {"properties": dict(self.properties)})


def _restore_message(kind: type[Message], values: dict[str, Any]) -> Message:
    return kind(**values)


def _check_type(name: str, value: object, kind: type, words: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"Message: {name} must be {words}, not {type(value).__name__}.")


def _copy_body(body: object) -> bytes:
    if type(body) is bytes:
        return body
    if isinstance(body, str):
        raise TypeError("Message: body must be bytes, not str. Encode it first: body=text.encode().")
    try:
        return bytes(memoryview(body))  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"Message: body must be bytes or bytes-like, not {type(body).__name__}.") from None


def _copy_keys(keys: object) -> tuple[str, ...]:
    if isinstance(keys, str):
        return tuple(keys.split())
    if not isinstance(keys, Sequence) or isinstance(keys, bytes | bytearray | memoryview):
        raise TypeError(f"Message: keys must be a str or a sequence of str, not {type(keys).__name__}.")
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"Message: each of keys must be a str, not {type(key).__name__}.")
    return tuple(keys)


def _copy_properties(properties: object) -> Mapping[str, str]:
    if properties is None:
        return _NO_PROPERTIES
    if not isinstance(properties, Mapping):
        raise TypeError(f"Message: properties must be a mapping of str to str, not {type(properties).__name__}.")
    copy = dict(properties)
    for name, value in copy.items():
        if not isinstance(name, str):
            raise TypeError(f"Message: names of properties must be str, not {type(name).__name__}.")
        if not isinstance(value, str):
            raise TypeError(f"Message: property {name!r} must be a str, not {type(value).__name__}.")
    return MappingProxyType(copy)


class MessageQueue(msgspec.Struct, frozen=True, order=True, gc=False):
    """One queue of a topic on one broker. Hashable and ordered.

    Attributes:
        topic: the topic's name.
        broker_name: the name of the broker (group) that has the queue.
        queue_id: from 0.
    """

    topic: str
    broker_name: str
    queue_id: int


class SendStatus(enum.IntEnum):
    """What the broker said of a message that it stored. The values are its response codes."""

    SEND_OK = 0
    FLUSH_DISK_TIMEOUT = 10
    SLAVE_NOT_AVAILABLE = 11
    FLUSH_SLAVE_TIMEOUT = 12


class SendResult(msgspec.Struct, frozen=True, gc=False):
    """An acknowledged message: it is stored at `queue_offset` of `queue`.

    Attributes:
        status: SEND_OK, or what is missing to the durability that the broker is configured for.
        message_id: the unique id that the producer gave the message.
        offset_message_id: the broker's id: its address and the physical offset.
        queue: where the message is.
        queue_offset: its place in the queue, from 0.
        transaction_id: as 5.x brokers return it; empty on 4.x.
        recall_handle: with which a delayed message can be recalled, or empty.
        region_id: the broker's region.
        attempt_count: how many attempts were made, at least 1.
        elapsed: seconds from the call of `send` to its return.
    """

    status: SendStatus
    message_id: str
    offset_message_id: str
    queue: MessageQueue
    queue_offset: int
    transaction_id: str
    recall_handle: str
    region_id: str
    attempt_count: int
    elapsed: float

    @property
    def ok(self) -> bool:
        """True if the message is stored as durably as the broker is configured to."""
        return self.status is SendStatus.SEND_OK

    def raise_for_status(self) -> SendResult:
        """This result if it is `ok`.

        Raises:
            NotDurableError: the message is stored, but not flushed or replicated as asked.
        """
        if self.ok:
            return self
        raise NotDurableError(
            f"Message {self.message_id} is stored in {self.queue.topic} at {self.queue.broker_name}, queue "
            f"{self.queue.queue_id}, offset {self.queue_offset}, but the broker answered {self.status.name}.",
            result=self,
            hint="Sending it again would store a second copy; look at the broker's disk and slaves.",
        )


class SendAttempt(msgspec.Struct, frozen=True):
    """One request for a message.

    Attributes:
        queue: the queue that was chosen.
        address: `host:port` of its broker.
        started: seconds after the call of `send`.
        elapsed: seconds that the attempt took.
        error: why it failed; None for the one that succeeded.
    """

    queue: MessageQueue
    address: str
    started: float
    elapsed: float
    error: RocketMQError | None


class MessageExt(msgspec.Struct, frozen=True, dict=True, kw_only=True):
    """A message as a broker stores it. It reads like a `Message` and knows where and when it was stored.

    Attributes:
        topic: the topic's name.
        body: the content.
        flag: the sender's flag.
        queue: where it is.
        queue_offset: its place in the queue.
        physical_offset: its place in the broker's log, in bytes.
        property_string: all properties as they are stored; `properties` decodes them.
        offset_message_id: the broker's id of the message.
        reconsume_times: how often it was given back by consumers.
        born_timestamp_ms: when the producer made it, in milliseconds since 1970.
        store_timestamp_ms: when the broker stored it, in milliseconds since 1970.
        born_host: `host:port` of the producer.
        store_host: `host:port` of the broker.
        body_crc: CRC-32 of the body, without its highest bit.
        sys_flag: the system flag.
        prepared_transaction_offset: physical offset of the half message, or 0.
    """

    topic: str
    body: bytes
    flag: int
    queue: MessageQueue
    queue_offset: int
    physical_offset: int
    property_string: str
    offset_message_id: str
    reconsume_times: int
    born_timestamp_ms: int
    store_timestamp_ms: int
    born_host: str
    store_host: str
    body_crc: int
    sys_flag: int
    prepared_transaction_offset: int

    @cached_property
    def properties(self) -> Mapping[str, str]:
        """All properties, the system's own included. Decoded on first use."""
        return MappingProxyType(decode_properties(self.property_string))

    @property
    def message_id(self) -> str:
        """The unique id that the producer gave the message; without one, the offset message id, as in Java."""
        return self.properties.get(UNIQ_KEY) or self.offset_message_id

    @property
    def tags(self) -> str:
        """The message's tag, or an empty string."""
        return self.properties.get(TAGS, "")

    @property
    def keys(self) -> tuple[str, ...]:
        """The message's keys."""
        return tuple(self.properties.get(KEYS, "").split())

    @property
    def wait_store_ok(self) -> bool:
        """Whether the sender wanted to wait for flush and replication."""
        return self.properties.get(WAIT, "true").lower() == "true"

    def to_message(self) -> Message:
        """A copy that can be sent: topic, body, tag, keys, flag and the user's own properties."""
        own = {name: value for name, value in self.properties.items() if name not in RESERVED_NAMES}
        return Message(
            self.topic, self.body, tags=self.tags, keys=self.keys, properties=own, flag=self.flag,
            wait_store_ok=self.wait_store_ok,
        )

    @property
    def born_at(self) -> datetime:
        """When the producer made it."""
        return _EPOCH + timedelta(milliseconds=self.born_timestamp_ms)

    @property
    def stored_at(self) -> datetime:
        """When the broker stored it."""
        return _EPOCH + timedelta(milliseconds=self.store_timestamp_ms)
