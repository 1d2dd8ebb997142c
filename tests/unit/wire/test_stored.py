"""Stored records and batch bodies, with literal bytes: layouts, limits, and everything that is refused."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.wire.batch import decode_batch, encode_batch
from rocketmq_aio.wire.stored import (
    MAGIC_V1,
    MAGIC_V2,
    decode_many,
    decode_stored,
    encode_stored,
    host_text,
    message_ext,
    parse_host,
    record_physical_offset,
    record_store_timestamp_ms,
)

BORN, STORE = (b"\x7f\0\0\1", 50_000), (b"\x0a\0\0\2", 10_911)
BORN_V6, STORE_V6 = (bytes(15) + b"\1", 50_000), (b"\xfe\x80" + bytes(13) + b"\2", 10_911)
MINIMAL = bytes.fromhex(
    "0000005b daa320a7 00000000 00000003 00000000 0000000000000000 0000000000000000 00000000 000000000000000a"
    "7f000001 0000c350 0000000000000000 0a000002 00002a9f 00000000 0000000000000000 00000000 00 0000"
)


def record(**changes: Any) -> bytes:
    """A record with an empty body, topic and property string, but for the changes."""
    fields: dict[str, Any] = {"topic": "", "body": b"", "property_string": "", "queue_id": 3, "born_timestamp_ms": 10}
    return encode_stored(**fields | {"born_host": BORN, "store_host": STORE} | changes)


def test_smallest_record() -> None:
    """With IPv4 hosts and everything empty a record has 91 bytes."""
    assert record() == MINIMAL
    assert len(MINIMAL) == 91
    stored, end = decode_stored(MINIMAL)
    assert end == 91
    assert (stored.queue_id, stored.born_timestamp_ms, stored.magic) == (3, 10, MAGIC_V1)
    assert (stored.born_host, stored.store_host) == (BORN, STORE)


@pytest.mark.parametrize(
    ("born", "store", "bits", "size"),
    [(BORN, STORE, 0, 91), (BORN_V6, STORE, 0x10, 103), (BORN, STORE_V6, 0x20, 103), (BORN_V6, STORE_V6, 0x30, 115)],
)
def test_hosts_decide_the_layout(born: tuple[bytes, int], store: tuple[bytes, int], bits: int, size: int) -> None:
    """The IPv6 bits of the system flag follow the addresses, whatever the caller's flag says."""
    for sys_flag in (0x8, 0x38):
        data = record(
            born_host=born, store_host=store, sys_flag=sys_flag, queue_offset=11, physical_offset=22,
            store_timestamp_ms=33,
        )
        assert len(data) == size
        stored, _ = decode_stored(data)
        assert stored.sys_flag == 0x8 | bits
        assert (stored.born_host, stored.store_host) == (born, store)
        assert (stored.queue_offset, stored.physical_offset, stored.store_timestamp_ms) == (11, 22, 33)
        assert (record_physical_offset(data, 0), record_store_timestamp_ms(data, 0)) == (22, 33)


@pytest.mark.parametrize(("length", "magic"), [(127, MAGIC_V1), (128, MAGIC_V2), (255, MAGIC_V2), (32_767, MAGIC_V2)])
def test_length_of_the_topic_decides_the_magic(length: int, magic: int) -> None:
    """Up to 127 bytes the topic's length has one byte, beyond it two."""
    stored, end = decode_stored(record(topic="t" * length))
    assert (stored.magic, stored.topic) == (magic, "t" * length)
    assert end == stored.total_size == 91 + length + (magic == MAGIC_V2)


def test_length_of_the_topic_is_in_bytes() -> None:
    """43 characters of three bytes each are beyond the 127 bytes of the first layout."""
    assert decode_stored(record(topic="中" * 43))[0].magic == MAGIC_V2


def test_given_crc_is_kept() -> None:
    """A CRC that the caller has computed is written as it is."""
    assert decode_stored(record(body=b"123456789"))[0].body_crc == 0xCBF43926 & 0x7FFFFFFF
    assert decode_stored(record(body=b"123456789", body_crc=5))[0].body_crc == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topic": "t" * 32_768}, "topic of 32768 bytes .* 32767 is the limit"),
        ({"property_string": "p" * 32_768}, "32768 bytes of properties .* 32767 is the limit"),
        ({"property_string": "中" * 10_923}, "32769 bytes of properties .* 32767 is the limit"),
        ({"topic": "\ud800"}, "surrogate"),
        ({"property_string": "\ud800"}, "surrogate"),
        ({"queue_id": 1 << 31}, "number does not fit"),
        ({"flag": -(1 << 31) - 1}, "number does not fit"),
        ({"queue_offset": 1 << 63}, "number does not fit"),
        ({"body_crc": 1 << 31}, "number does not fit"),
        ({"born_host": (b"123", 1)}, "address of the born host has 3 bytes, not 4 or 16"),
        ({"store_host": (b"", 1)}, "address of the store host has 0 bytes, not 4 or 16"),
        ({"born_host": (b"1234", 1 << 31)}, "number does not fit"),
    ],
)
def test_what_cannot_be_expressed(changes: dict[str, Any], words: str) -> None:
    """Values that the layout has no room for are refused; lengths come with their limit."""
    with pytest.raises(LocalProtocolError, match=words):
        record(**changes)


@pytest.mark.parametrize("size", range(91))
def test_record_cut_off(size: int) -> None:
    """A record that is cut anywhere is refused; so is one that follows a whole one."""
    with pytest.raises(LocalProtocolError, match="byte 0 is broken"):
        decode_stored(MINIMAL[:size])
    if size:
        with pytest.raises(LocalProtocolError, match="byte 91 is broken"):
            decode_many(MINIMAL + MINIMAL[:size])


def changed(position: int, layout: str, value: int, base: bytes | bytearray = MINIMAL) -> bytes:
    """The record with another number at a position."""
    data = bytearray(base)
    struct.pack_into(layout, data, position, value)
    return bytes(data)


LONG_TOPIC = record(topic="t" * 200)
BROKEN = [
    pytest.param(changed(4, ">I", 0xDAA320A8), "magic DAA320A8 is unknown", id="magic"),
    pytest.param(changed(4, ">I", 0xCBD43194), "magic CBD43194 is unknown", id="blank"),
    pytest.param(changed(0, ">i", 90), "size is 90", id="total-small"),
    pytest.param(changed(0, ">i", 92), "size is 92", id="total-large"),
    pytest.param(changed(0, ">i", -91), "size is -91", id="total-negative"),
    pytest.param(changed(84, ">i", -1), "length of its body is -1", id="body-negative"),
    pytest.param(changed(84, ">i", 1), "cut off", id="body-lies"),
    pytest.param(changed(84, ">i", 0x7FFFFFFF), "cut off", id="body-huge"),
    pytest.param(changed(88, ">b", 1), "cut off", id="topic-lies"),
    pytest.param(changed(88, ">b", -1), "length of its topic is -1", id="topic-negative"),
    pytest.param(changed(88, ">h", -1, LONG_TOPIC), "length of its topic is -1", id="long-topic-negative"),
    pytest.param(changed(88, ">h", 201, LONG_TOPIC), "cut off", id="long-topic-lies"),
    pytest.param(changed(89, ">h", 1), "size is 91", id="properties-lie"),
    pytest.param(changed(89, ">h", -1), "size is 91", id="properties-negative"),
    pytest.param(changed(36, ">i", 0x10), "cut off", id="v6-bit-lies"),
    pytest.param(record(topic="ab").replace(b"ab", b"\xff\xfe"), "not UTF-8", id="topic-not-utf8"),
    pytest.param(record(property_string="ab").replace(b"ab", b"\xed\xa0"), "not UTF-8", id="properties-not-utf8"),
]


@pytest.mark.parametrize(("data", "words"), BROKEN)
def test_broken_record_is_refused(data: bytes, words: str) -> None:
    """Unknown magics, fillers, lengths that lie or are negative, and bad UTF-8 are refused with the reason."""
    for decode in (decode_stored, decode_many):
        with pytest.raises(LocalProtocolError, match=words):
            decode(data)


def test_negative_properties_cannot_hide_behind_the_size() -> None:
    """A negative length that the total size agrees with is refused all the same."""
    with pytest.raises(LocalProtocolError, match="size is 90"):
        decode_stored(changed(0, ">i", 90, changed(89, ">h", -1)))


def test_records_from_within_a_buffer() -> None:
    """Records are read from any position of `bytes`, `bytearray` and `memoryview`; nothing is no record at all."""
    two = bytes(record(body=b"one")) + bytes(record(body=b"three"))
    for data in (two, bytearray(two), memoryview(two)):
        assert [stored.body for stored in decode_many(data)] == [b"one", b"three"]
        stored, end = decode_stored(data, 94)
        assert (stored.body, type(stored.body), end) == (b"three", bytes, 190)
    assert decode_many(b"") == []
    with pytest.raises(LocalProtocolError, match="0 bytes are left"):
        decode_stored(two, len(two) + 5)


def test_message_of_a_record() -> None:
    """Users see texts for hosts and ids; a message without a unique id is known by its offset id."""
    data = record(
        topic="Orders", body=b"hello", property_string="TAGS\x01a\x02", store_host=STORE_V6, physical_offset=2
    )
    message = message_ext(decode_stored(data)[0], "broker-a")
    assert (message.queue.topic, message.queue.broker_name, message.queue.queue_id) == ("Orders", "broker-a", 3)
    assert (message.topic, message.body, message.tags) == ("Orders", b"hello", "a")
    assert (message.born_host, message.store_host) == ("127.0.0.1:50000", "[fe80::2]:10911")
    assert message.message_id == message.offset_message_id == "FE80" + "0" * 26 + "02" + "00002A9F" + "0" * 15 + "2"


@pytest.mark.parametrize("text", ["127.0.0.1:10911", "0.0.0.0:0", "[::1]:65535", "[2001:db8::7]:1"])
def test_host_there_and_back(text: str) -> None:
    """A host's text is that of its bytes."""
    assert host_text(*parse_host(text)) == text


def test_host_in_long_form() -> None:
    """Java writes IPv6 addresses without shortening them."""
    assert parse_host("[2001:db8:0:0:0:0:0:1]:50000") == (bytes.fromhex("20010db8000000000000000000000001"), 50_000)


@pytest.mark.parametrize(
    "text",
    ["", ":", "127.0.0.1", "127.0.0.1:", ":1", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1:1_0",
     "127.0.0.1:１", "::1:10911", "[127.0.0.1]:1", "[::1]", "[::1]:", "localhost:1", "1.2.3:4", "[:1",
     "127.0.0.1:" + "9" * 5000],
)  # fmt: skip
def test_text_that_is_no_host(text: str) -> None:
    """Names, missing or impossible ports and IPv6 addresses without brackets are refused; long texts are cut."""
    with pytest.raises(LocalProtocolError, match="not an address and a port") as caught:
        parse_host(text)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("size", [0, 3, 5, 17])
def test_address_of_another_size(size: int) -> None:
    """An address has 4 or 16 bytes."""
    with pytest.raises(LocalProtocolError, match=f"4 or 16 bytes, not {size}"):
        host_text(bytes(size), 1)


ENTRY = bytes.fromhex("0000001a 00000000 00000000 ffffffff 00000002 6869 0002 6101")


def test_batch_entry() -> None:
    """Size, magic 0, CRC 0, flag, body, properties; nothing in a batch body is no message."""
    assert encode_batch([(-1, b"hi", "a\x01")]) == ENTRY
    assert decode_batch(ENTRY) == [(-1, b"hi", "a\x01")]
    assert encode_batch([]) == b""
    assert decode_batch(b"") == []


def test_batch_magic_and_crc_do_not_matter() -> None:
    """Java reads over both; other clients may write something there."""
    assert decode_batch(changed(4, ">q", -1, ENTRY)) == [(-1, b"hi", "a\x01")]


@pytest.mark.parametrize("size", range(1, len(ENTRY)))
def test_batch_cut_off(size: int) -> None:
    """A batch body that is cut anywhere but between messages is refused."""
    with pytest.raises(LocalProtocolError, match=f"byte {len(ENTRY)} of the batch is broken"):
        decode_batch(ENTRY + ENTRY[:size])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed(0, ">i", 25, ENTRY), "size 25 does not fit"),
        (changed(0, ">i", 27, ENTRY), "size 27 does not fit"),
        (changed(16, ">i", -1, ENTRY), "body of -1 bytes"),
        (changed(16, ">i", 0x7FFFFFFF, ENTRY), "body of 2147483647 bytes"),
        (changed(22, ">h", -2, ENTRY), "properties: -2"),
        (changed(0, ">i", 22, changed(22, ">h", -2, ENTRY)), "properties: -2"),
        (changed(22, ">h", 3, ENTRY), "properties: 3"),
        (ENTRY[:-2] + b"\xff\xff", "not UTF-8"),
    ],
)
def test_broken_batch_is_refused(data: bytes, words: str) -> None:
    """Lengths that lie or are negative and bad UTF-8 are refused with the reason."""
    with pytest.raises(LocalProtocolError, match=words):
        decode_batch(data)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ((1 << 31, b"", ""), "Message 1 of the batch: flag 2147483648"),
        ((0, b"", "p" * 32_768), "Message 1 of the batch: .* 32768 bytes of properties .* 32767"),
        ((0, b"", "\udfff"), "Message 1 of the batch: .* surrogate"),
    ],
)
def test_batch_that_cannot_be_expressed(entry: tuple[int, bytes, str], words: str) -> None:
    """The error names the message, counted from 0, the value and the limit."""
    with pytest.raises(LocalProtocolError, match=words):
        encode_batch([(0, b"first", ""), entry])
