"""Properties of the stored-message and batch codecs: there and back is the identity, garbage raises one error only."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.properties import decode_properties, encode_properties
from rocketmq_aio.wire.batch import decode_batch, encode_batch
from rocketmq_aio.wire.ids import parse_offset_message_id, parse_unique_id
from rocketmq_aio.wire.stored import (
    MAGIC_V1,
    StoredMessage,
    decode_many,
    decode_stored,
    encode_stored,
    host_text,
    message_ext,
    parse_host,
)

INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
ADDRESS = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
HOST = st.tuples(ADDRESS, st.integers(0, 0xFFFF))
NAMES = st.text(st.characters(exclude_characters="\x01\x02", exclude_categories=["Cs"]), min_size=1, max_size=20)
PROPERTIES = st.dictionaries(NAMES, NAMES, max_size=5)
FIELDS = st.fixed_dictionaries(
    {
        "topic": st.text(max_size=80),
        "body": st.binary(max_size=200),
        "property_string": st.text(max_size=80) | PROPERTIES.map(encode_properties),
        "queue_id": INT32,
        "flag": INT32,
        "queue_offset": INT64,
        "physical_offset": INT64,
        "sys_flag": INT32,
        "born_timestamp_ms": INT64,
        "born_host": HOST,
        "store_timestamp_ms": INT64,
        "store_host": HOST,
        "reconsume_times": INT32,
        "prepared_transaction_offset": INT64,
        "body_crc": INT32,
    }
)
ENTRIES = st.lists(st.tuples(INT32, st.binary(max_size=60), st.text(max_size=30)), max_size=4)
#: Numbers that lengths like to lie with.
LIES = (0, 1, 2, 91, 127, 128, 255, 0x7FFF, 0x8000, 0xFFFF, 1 << 24, 0x7FFFFFFF, 1 << 31, 0xFFFFFFFF)
MUTATIONS = 20_000


def some_records() -> list[bytes]:
    """One record of each layout and kind. To draw their fields anew for each mutation would take most of the time."""
    hosts = [(b"\x7f\0\0\1", 10_911), (bytes(15) + b"\1", 10_911)]
    return [
        bytes(
            encode_stored(
                topic=topic, body=body, property_string=properties, queue_id=3, born_timestamp_ms=1, born_host=born,
                store_host=store,
            )
        )
        for topic, properties in (("", ""), ("Topic", "TAGS\x01中\x02"), ("t" * 130, "a\x01b"))
        for body in (b"", b"body")
        for born in hosts
        for store in hosts
    ]  # fmt: skip


RECORDS = some_records()
BATCHES = [encode_batch([(0, b"", "")]), encode_batch([(1, b"one", "a\x01b\x02"), (-1, b"two", "中")])]


def mutated(rng: random.Random, sources: list[bytes]) -> bytes:
    """Valid bytes with some bytes or words overwritten, cut out, doubled or cut off."""
    data = bytearray(b"".join(rng.choices(sources, k=rng.randint(1, 3))))
    for _ in range(rng.randint(1, 3)):
        at, count = rng.randrange(len(data) + 1), rng.randint(1, 8)
        match rng.randrange(5):
            case 0:
                data[at : at + 1] = rng.randbytes(1)
            case 1 if at + 4 <= len(data):
                struct.pack_into(">I", data, at, rng.choice(LIES))
            case 2:
                del data[at : at + count]
            case 3:
                data[at:at] = data[at : at + count]
            case _:
                del data[at:]
    return bytes(data)


def encode_again(stored: StoredMessage) -> bytes:
    """The record that our encoder makes of a decoded one."""
    fields = {name: getattr(stored, name) for name in stored.__struct_fields__ if name not in ("total_size", "magic")}
    return bytes(encode_stored(**fields))


@settings(max_examples=500)
@given(FIELDS, st.binary(max_size=5))
def test_record_there_and_back(fields: dict[str, Any], before: bytes) -> None:
    """Every field comes back, at any position, but for the IPv6 bits, which follow the addresses."""
    record = encode_stored(**fields)
    stored, end = decode_stored(before + bytes(record), len(before))
    assert end == len(before) + len(record)
    assert stored.total_size == len(record)
    bits = 0x10 * (len(fields["born_host"][0]) == 16) | 0x20 * (len(fields["store_host"][0]) == 16)
    expected = fields | {"sys_flag": fields["sys_flag"] & ~0x30 | bits}
    assert {name: getattr(stored, name) for name in expected} == expected
    message = message_ext(stored, "b")
    assert parse_host(message.born_host) == stored.born_host
    assert parse_host(message.store_host) == stored.store_host
    assert parse_offset_message_id(message.offset_message_id) == (*stored.store_host, stored.physical_offset)


@settings(max_examples=100)
@given(st.lists(FIELDS, max_size=5))
def test_many_there_and_back(many: list[dict[str, Any]]) -> None:
    """Records one after the other decode to the same as each of them alone."""
    records = [bytes(encode_stored(**fields)) for fields in many]
    assert decode_many(b"".join(records)) == [decode_stored(record)[0] for record in records]


def check_records(data: bytes) -> bool:
    """Whether the bytes are records; if so, they are what their fields encode to. Only one error may say that not."""
    try:
        messages = decode_many(data)
    except LocalProtocolError:
        return False
    assert sum(stored.total_size for stored in messages) == len(data)
    position = 0
    for stored in messages:
        # Of the second layout there are two records for one short topic, and we write the first layout then.
        if stored.magic == MAGIC_V1 or len(stored.topic.encode()) > 127:
            assert encode_again(stored) == data[position : position + stored.total_size]
        position += stored.total_size
    return True


def check_batch(data: bytes) -> bool:
    """Whether the bytes are a batch; if so, their messages are as long. Only one error may say that not."""
    try:
        entries = decode_batch(data)
    except LocalProtocolError:
        return False
    assert len(encode_batch(entries)) == len(data)
    return True


@pytest.mark.parametrize(("check", "sources"), [(check_records, RECORDS), (check_batch, BATCHES)])
def test_mutated_bytes_raise_one_error(check: Callable[[bytes], bool], sources: list[bytes]) -> None:
    """Of many mutations some are still valid, most are not, and none raises anything but `LocalProtocolError`."""
    valid = 0
    for seed in range(MUTATIONS):
        data = mutated(random.Random(seed), sources)
        try:
            valid += check(data)
        except Exception as error:
            error.add_note(f"seed {seed}: {data.hex()}")
            raise
    assert 0 < valid < MUTATIONS / 2


@settings(max_examples=500)
@given(st.binary(max_size=200), st.booleans())
def test_garbage_raises_one_error(data: bytes, disguised: bool) -> None:
    """Neither do bytes without any sense, with a plausible size and magic before them or not."""
    if disguised:
        data = struct.pack(">ii", len(data) + 8, MAGIC_V1) + data
    check_records(data)
    check_batch(data)


@settings(max_examples=500)
@given(ENTRIES)
def test_batch_there_and_back(entries: list[tuple[int, bytes, str]]) -> None:
    """Every message of a batch comes back, in order."""
    assert decode_batch(encode_batch(entries)) == entries


@settings(max_examples=500)
@given(PROPERTIES)
def test_properties_there_and_back(properties: dict[str, str]) -> None:
    """Names and values without separators come back; without the last separator, too."""
    text = encode_properties(properties)
    assert decode_properties(text) == decode_properties(text[:-1]) == properties


@settings(max_examples=500)
@given(st.text(st.sampled_from("0123456789ABCDEFabcdef\x01\x02[]:.% -+_x"), max_size=60) | st.text(max_size=60))
def test_texts_raise_one_error(text: str) -> None:
    """No text makes a parser raise anything but `LocalProtocolError`."""
    decode_properties(text)
    for parse in (parse_unique_id, parse_offset_message_id, parse_host):
        try:
            parse(text)
        except LocalProtocolError as error:
            assert len(str(error)) < 1000


@settings(max_examples=500)
@given(HOST)
def test_host_there_and_back(host: tuple[bytes, int]) -> None:
    """A host's text leads back to its bytes."""
    assert parse_host(host_text(*host)) == host
