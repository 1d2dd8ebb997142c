"""Stored messages and batch bodies, against records of Java's encoder and of Apache's brokers (4.9.7 and 5.3.3)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from rocketmq_aio.codes import SysFlag
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.properties import decode_properties
from rocketmq_aio.wire.batch import decode_batch, encode_batch
from rocketmq_aio.wire.stored import (
    StoredMessage,
    decode_many,
    decode_stored,
    encode_stored,
    message_ext,
    parse_host,
)

HERE = Path(__file__).parent
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    """The rows of a file of vectors."""
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def record_bytes(row: Row) -> bytes:
    """The bytes of a row, which are hex or, if long, base64."""
    return bytes.fromhex(row["stored_hex"]) if "stored_hex" in row else base64.b64decode(row["stored_base64"])


def encode_again(stored: StoredMessage) -> bytes:
    """The record that our encoder makes of a decoded one."""
    fields = {name: getattr(stored, name) for name in stored.__struct_fields__ if name not in ("total_size", "magic")}
    return bytes(encode_stored(**fields))


def label(row: Row) -> str:
    return f"{row['kind']}-{row['name']}-{row['origin']}".replace(" ", "_") if "kind" in row else row["name"]


ROWS = rows("stored_message.jsonl")
SINGLE = [row for row in ROWS if "decoded_raw" in row]
MANY = [row for row in ROWS if row["kind"] == "body_of_many"]
BATCHES = rows("batch_body.jsonl")


def test_vectors_are_complete() -> None:
    """Every kind of vector is there: a test over an empty list would pass."""
    assert (len(SINGLE), len(MANY), len(BATCHES)) == (146, 41, 9)


@pytest.mark.parametrize("row", SINGLE, ids=label)
def test_record_is_decoded_as_by_java(row: Row) -> None:
    """Each field is what Java's decoder reads, and so are the properties and both ids."""
    data, expected = record_bytes(row), row["decoded_raw"]
    stored, end = decode_stored(data)
    assert end == len(data) == stored.total_size == expected["storeSize"]
    assert stored.topic == expected["topic"]
    assert stored.queue_id == expected["queueId"]
    assert stored.flag == expected["flag"]
    assert stored.queue_offset == expected["queueOffset"]
    assert stored.physical_offset == expected["physicalOffset"]
    assert stored.sys_flag == expected["sysFlag"]
    assert stored.born_timestamp_ms == expected["bornTimestamp"]
    assert stored.born_host == parse_host(expected["bornHost"])
    assert stored.store_timestamp_ms == expected["storeTimestamp"]
    assert stored.store_host == parse_host(expected["storeHost"])
    assert stored.reconsume_times == expected["reconsumeTimes"]
    assert stored.prepared_transaction_offset == expected["preparedTransactionOffset"]
    assert stored.body == bytes.fromhex(expected["body_hex"] or "")
    assert stored.body_crc == expected["bodyCRC"]
    assert decode_properties(stored.property_string) == (expected["properties"] or {})
    message = message_ext(stored, "broker-a")
    assert message.message_id == expected["msgId"]
    assert message.offset_message_id == expected["offsetMsgId"]
    assert parse_host(message.store_host) == stored.store_host


@pytest.mark.parametrize("row", SINGLE, ids=label)
def test_record_is_encoded_as_by_java(row: Row) -> None:
    """The decoded fields encode to the same bytes, those of IPv6 hosts and long topics included."""
    data = record_bytes(row)
    stored, _ = decode_stored(data)
    assert encode_again(stored).hex() == data.hex()


@pytest.mark.parametrize("row", [row for row in SINGLE if row["kind"] == "stored"], ids=label)
def test_crc_is_that_of_the_broker(row: Row) -> None:
    """Brokers compute the CRC over the body as stored, without the highest bit; so do we when none is given."""
    stored, _ = decode_stored(record_bytes(row))
    assert stored.body_crc == crc32(stored.body) & 0x7FFFFFFF
    stored.body_crc = None  # type: ignore[assignment]
    assert encode_again(stored) == record_bytes(row)


@pytest.mark.parametrize("row", MANY, ids=label)
def test_answer_of_many_records(row: Row) -> None:
    """The records of a pull or query answer begin where Java says, with its queue offsets and message ids."""
    data = record_bytes(row)
    starts, position = [], 0
    while position < len(data):
        starts.append(position)
        _, position = decode_stored(data, position)
    assert starts == row["starts"]
    messages = decode_many(data)
    assert len(messages) == row["count"]
    assert [stored.queue_offset for stored in messages] == row["queueOffsets"]
    assert [message_ext(stored, "b").message_id for stored in messages] == row["msgIds"]
    assert b"".join(encode_again(stored) for stored in messages) == data
    for copy in (bytearray(data), memoryview(data)):
        assert decode_many(copy) == messages
        assert decode_stored(copy, starts[-1]) == decode_stored(data, starts[-1])


@pytest.mark.parametrize("row", [row for row in ROWS if row["name"] == "many"], ids=label)
def test_many_encoded_records(row: Row) -> None:
    """Java's encoded records one after the other: message id, topic, queue offset and number of properties."""
    messages = [message_ext(stored, "b") for stored in decode_many(record_bytes(row))]
    assert row["decoded_list"] == [f"{m.message_id} {m.topic} {m.queue_offset} {len(m.properties)}" for m in messages]


@pytest.mark.parametrize("row", [row for row in ROWS if row["name"] == "many-truncated"], ids=label)
def test_truncated_answer_is_refused(row: Row) -> None:
    """Java drops a last record that is cut off; here the whole answer is refused."""
    with pytest.raises(LocalProtocolError, match="broken"):
        decode_many(record_bytes(row))


@pytest.mark.parametrize("row", [row for row in ROWS if "encode_error" in row], ids=label)
def test_long_topic_takes_the_second_layout(row: Row) -> None:
    """Java cannot encode a topic of 200 bytes in the first layout; such a topic takes the second, and comes back."""
    assert row["name"] == "topic-200-v1"
    host = (b"\x7f\0\0\1", 1)
    record = encode_stored(
        topic="t" * 200, body=b"x", property_string="", queue_id=0, born_timestamp_ms=0, born_host=host, store_host=host
    )
    assert record[4:8].hex() == "daa320ab"
    assert decode_stored(record)[0].topic == "t" * 200


def test_inner_batch_is_a_batch() -> None:
    """The body of a record with the inner-batch flag holds the messages that Java unwraps from it."""
    row = next(row for row in ROWS if "unwrapped" in row)
    stored, _ = decode_stored(record_bytes(row))
    assert SysFlag(stored.sys_flag) == SysFlag.NEED_UNWRAP | SysFlag.INNER_BATCH
    inner = [(flag, body.hex(), decode_properties(text)) for flag, body, text in decode_batch(stored.body)]
    assert inner == [(part["flag"], part["body_hex"], part["properties"]) for part in row["unwrapped"]]


@pytest.mark.parametrize("row", BATCHES, ids=lambda row: f"{row['name']}-{row['origin']}".replace(" ", "_"))
def test_batch_body(row: Row) -> None:
    """Batch bodies decode to Java's messages, and those encode to Java's bytes."""
    data = bytes.fromhex(row["body_hex"])
    entries = decode_batch(data)
    expected = [(part["flag"], bytes.fromhex(part["body_hex"]), part["property_string"]) for part in row["messages"]]
    assert entries == expected
    assert [decode_properties(text) for _, _, text in entries] == [part["properties"] for part in row["messages"]]
    assert encode_batch(entries) == data
    assert decode_batch(bytearray(data)) == decode_batch(memoryview(data)) == entries
