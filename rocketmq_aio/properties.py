"""Message properties: their reserved names, and the one string in which they travel.

The string is ``name 0x01 value 0x02`` for each property. This file knows nothing of messages.

Source: `MessageConst.java`, `MessageDecoder.java` (5.3.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = [
    "KEYS", "PROPERTY_BYTES_MAX", "RESERVED_NAMES", "TAGS", "UNIQ_KEY", "WAIT", "decode_properties",
    "encode_properties",
]

NAME_END = "\x01"
PAIR_END = "\x02"

#: The stored message has 16 signed bits for the length of its property string.
PROPERTY_BYTES_MAX = 32_767

KEYS = "KEYS"
TAGS = "TAGS"
WAIT = "WAIT"
UNIQ_KEY = "UNIQ_KEY"
CLUSTER = "CLUSTER"
MSG_REGION = "MSG_REGION"
TRACE_ON = "TRACE_ON"

#: Names that belong to RocketMQ itself; a user's property may not have one of them.
RESERVED_NAMES = frozenset(
    (
        "KEYS TAGS WAIT DELAY RETRY_TOPIC REAL_TOPIC REAL_QID TRAN_MSG PGROUP MIN_OFFSET MAX_OFFSET BUYER_ID "
        "ORIGIN_MESSAGE_ID TRANSFER_FLAG CORRECTION_FLAG MQ2_FLAG RECONSUME_TIME UNIQ_KEY MAX_RECONSUME_TIMES "
        "CONSUME_START_TIME POP_CK POP_CK_OFFSET 1ST_POP_TIME TRAN_PREPARED_QUEUE_OFFSET DUP_INFO EXTEND_UNIQ_INFO "
        "INSTANCE_ID CORRELATION_ID REPLY_TO_CLIENT TTL ARRIVE_TIME PUSH_REPLY_TIME CLUSTER MSG_TYPE "
        "INNER_MULTI_QUEUE_OFFSET TIMER_DELAY_MS TIMER_DELAY_SEC TIMER_DELIVER_MS TIMER_ENQUEUE_MS TIMER_DEQUEUE_MS "
        "TIMER_ROLL_TIMES TIMER_OUT_MS TIMER_DEL_UNIQKEY TIMER_DELAY_LEVEL __BORNHOST BORN_TIMESTAMP "
        "DLQ_ORIGIN_TOPIC DLQ_ORIGIN_MESSAGE_ID __CRC32# TRACE_ON MSG_REGION"
    ).split()
)


def encode_properties(properties: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """The property string of `properties`, in their order. Nothing is checked and nothing can be escaped."""
    pairs = properties.items() if isinstance(properties, Mapping) else properties
    return "".join([f"{name}\x01{value}\x02" for name, value in pairs])


def decode_properties(text: str) -> dict[str, str]:
    """The properties in `text`, as Java reads them.

    A pair without a name or a value is dropped, of two pairs with one name the last counts, and the closing 0x02 may be
    missing (Java 4.9.4 to 5.1 leave it out).
    """
    properties: dict[str, str] = {}
    for pair in text.split(PAIR_END):
        name, separator, value = pair.partition(NAME_END)
        if separator and name and value:
            properties[name] = value
    return properties
