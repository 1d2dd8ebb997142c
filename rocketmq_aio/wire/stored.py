"""Messages as brokers store them, and as pull, query and view answers carry them: records, one after the other.

A record is a fixed part (88 bytes with IPv4 hosts, 12 more for each IPv6 host), the body, the topic and the property
string. All numbers are big-endian. Two magics tell whether the topic's length has one byte or two. This file neither
decompresses nor splits properties, and it does not check the CRC, as Java's clients do not.

Source: `MessageDecoder.java`, `MessageVersion.java`, `MessageExtEncoder.java` (5.3.3).
Differs: Java drops what follows a record that it cannot read; here the whole answer is refused. Java takes no notice of
a total size that disagrees with the lengths inside; here it is an error.
"""

from __future__ import annotations

import ipaddress
import struct
from functools import lru_cache
from zlib import crc32

import msgspec

from rocketmq_aio.codes import SysFlag
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.message import MessageExt, MessageQueue
from rocketmq_aio.properties import PROPERTY_BYTES_MAX
from rocketmq_aio.wire.ids import offset_message_id

__all__ = [
    "MAGIC_V1", "MAGIC_V2", "StoredMessage", "decode_many", "decode_stored", "encode_stored", "host_text",
    "message_ext", "parse_host", "record_physical_offset", "record_store_timestamp_ms",
]

#: DA A3 20 A7: the topic's length has one byte.
MAGIC_V1 = -626_843_481
#: DA A3 20 AB: the topic's length has two bytes. Only retry topics are so long.
MAGIC_V2 = -626_843_477

_V1_TOPIC_BYTES_MAX = 127
_TOPIC_BYTES_MAX = 32_767

_BORN_HOST_V6 = int(SysFlag.BORN_HOST_V6)
_STORE_HOST_V6 = int(SysFlag.STORE_HOST_V6)
_HOSTS_V6 = _BORN_HOST_V6 | _STORE_HOST_V6
_NOT_HOSTS_V6 = ~_HOSTS_V6

# The four layouts of the fixed part, by the two IPv6 bits of the system flag.
_LAYOUTS = {
    (_BORN_HOST_V6 if born == 16 else 0) | (_STORE_HOST_V6 if store == 16 else 0): struct.Struct(
        f">iiiiiqqiq{born}siq{store}siiqi"
    )
    for born in (4, 16)
    for store in (4, 16)
}
_V4 = _LAYOUTS[0]
_pack_v4, _unpack_v4, _V4_SIZE = _V4.pack, _V4.unpack_from, _V4.size
_SHORT = struct.Struct(">h")
_pack_short, _unpack_short = _SHORT.pack, _SHORT.unpack_from
_ONE_BYTE = tuple(bytes((number,)) for number in range(_V1_TOPIC_BYTES_MAX + 1))

# Where the numbers are that logs search by.
_LONG = struct.Struct(">q")
_PHYSICAL_OFFSET_AT, _SYS_FLAG_LOW_BYTE_AT, _STORE_TIMESTAMP_AT = 28, 39, 56
_IPV6_EXTRA = 12


class StoredMessage(msgspec.Struct, gc=False):
    """One record, field by field, in the order of the bytes.

    Attributes:
        total_size: bytes of the whole record.
        magic: `MAGIC_V1` or `MAGIC_V2`.
        body_crc: CRC-32 of the body as it is stored, without its highest bit.
        queue_id: from 0.
        flag: the sender's flag.
        queue_offset: the message's place in its queue.
        physical_offset: the message's place in the broker's log, in bytes.
        sys_flag: the system flag (`SysFlag`).
        born_timestamp_ms: when the producer made it, in milliseconds since 1970.
        born_host: the producer's address (4 or 16 bytes) and port.
        store_timestamp_ms: when the broker stored it, in milliseconds since 1970.
        store_host: the broker's address (4 or 16 bytes) and port.
        reconsume_times: how often consumers gave it back.
        prepared_transaction_offset: physical offset of the half message, or 0.
        body: as it is stored, possibly compressed.
        topic: the topic's name.
        property_string: all properties, undecoded.
    """

    total_size: int
    magic: int
    body_crc: int
    queue_id: int
    flag: int
    queue_offset: int
    physical_offset: int
    sys_flag: int
    born_timestamp_ms: int
    born_host: tuple[bytes, int]
    store_timestamp_ms: int
    store_host: tuple[bytes, int]
    reconsume_times: int
    prepared_transaction_offset: int
    body: bytes
    topic: str
    property_string: str


def encode_stored(
    *,
    topic: str,
    body: bytes,
    property_string: str,
    queue_id: int,
    born_timestamp_ms: int,
    born_host: tuple[bytes, int],
    store_host: tuple[bytes, int],
    flag: int = 0,
    sys_flag: int = 0,
    queue_offset: int = 0,
    physical_offset: int = 0,
    store_timestamp_ms: int = 0,
    reconsume_times: int = 0,
    prepared_transaction_offset: int = 0,
    body_crc: int | None = None,
) -> bytes:
    """The record of a message.

    Args:
        topic: at most 32,767 bytes in UTF-8.
        body: as it is to be stored, possibly compressed.
        property_string: all properties, at most 32,767 bytes in UTF-8.
        queue_id: from 0.
        born_timestamp_ms: when the producer made it, in milliseconds since 1970.
        born_host: the producer's address (4 or 16 bytes) and port.
        store_host: the broker's address (4 or 16 bytes) and port.
        flag: the sender's flag, 32 bits.
        sys_flag: the system flag; the bits that tell IPv6 hosts are set here, by the addresses.
        queue_offset: the message's place in its queue.
        physical_offset: the message's place in the broker's log, in bytes.
        store_timestamp_ms: when the broker stored it, in milliseconds since 1970.
        reconsume_times: how often consumers gave it back.
        prepared_transaction_offset: physical offset of the half message, or 0.
        body_crc: CRC-32 of the body, without its highest bit. None: computed.

    Raises:
        LocalProtocolError: a value cannot be expressed: too large, too long, or not UTF-8.
    """
    born_address, born_port = born_host
    store_address, store_port = store_host
    try:
        topic_bytes = topic.encode()
        properties = property_string.encode()
        topic_length, properties_length, body_length = len(topic_bytes), len(properties), len(body)
        if topic_length <= _V1_TOPIC_BYTES_MAX:
            magic, topic_length_bytes = MAGIC_V1, _ONE_BYTE[topic_length]
        else:
            magic, topic_length_bytes = MAGIC_V2, _pack_short(topic_length)
        sys_flag &= _NOT_HOSTS_V6
        if len(born_address) == 4 and len(store_address) == 4:
            pack, fixed_size = _pack_v4, _V4_SIZE
        else:
            sys_flag |= _v6_bits(born_address, store_address)
            layout = _LAYOUTS[sys_flag & _HOSTS_V6]
            pack, fixed_size = layout.pack, layout.size
        return b"".join((
            pack(
                fixed_size + body_length + len(topic_length_bytes) + topic_length + 2 + properties_length, magic,
                crc32(body) & 0x7FFFFFFF if body_crc is None else body_crc, queue_id, flag, queue_offset,
                physical_offset, sys_flag, born_timestamp_ms, born_address, born_port, store_timestamp_ms,
                store_address, store_port, reconsume_times, prepared_transaction_offset, body_length,
            ),
            body, topic_length_bytes, topic_bytes, _pack_short(properties_length), properties,
        ))
    except UnicodeEncodeError:
        raise LocalProtocolError("UTF-8 cannot express the lone surrogate in the topic or in a property.") from None
    except struct.error as error:
        raise _unstorable(topic_length, properties_length, error) from None


def _v6_bits(born_address: bytes, store_address: bytes) -> int:
    bits = 0
    for name, address, bit in (("born", born_address, _BORN_HOST_V6), ("store", store_address, _STORE_HOST_V6)):
        if len(address) == 16:
            bits |= bit
        elif len(address) != 4:
            raise LocalProtocolError(f"The address of the {name} host has {len(address)} bytes, not 4 or 16.")
    return bits


def _unstorable(topic_length: int, properties_length: int, error: struct.error) -> LocalProtocolError:
    if topic_length > _TOPIC_BYTES_MAX:
        return LocalProtocolError(f"A topic of {topic_length} bytes cannot be stored: {_TOPIC_BYTES_MAX} is the limit.")
    if properties_length > PROPERTY_BYTES_MAX:
        return LocalProtocolError(
            f"{properties_length} bytes of properties cannot be stored: {PROPERTY_BYTES_MAX} is the limit."
        )
    return LocalProtocolError(f"A number does not fit into the field of the stored message that it is for: {error}.")


def record_physical_offset(chunk: bytes | bytearray, place: int) -> int:
    """The physical offset in the record that begins at `place`, without decoding it."""
    offset: int = _LONG.unpack_from(chunk, place + _PHYSICAL_OFFSET_AT)[0]
    return offset


def record_store_timestamp_ms(chunk: bytes | bytearray, place: int) -> int:
    """The store time in the record that begins at `place`, in milliseconds since 1970, without decoding it."""
    at = place + _STORE_TIMESTAMP_AT
    if chunk[place + _SYS_FLAG_LOW_BYTE_AT] & _BORN_HOST_V6:
        at += _IPV6_EXTRA
    timestamp: int = _LONG.unpack_from(chunk, at)[0]
    return timestamp


def decode_stored(data: bytes | bytearray | memoryview, position: int = 0) -> tuple[StoredMessage, int]:
    """The record that begins at `position`, and the position after it.

    Args:
        data: of other types than `bytes` everything from `position` on is copied.
        position: from 0.

    Raises:
        LocalProtocolError: there is no whole record: an unknown magic, cut off, a length that lies or is negative, bad
            UTF-8. Fillers at the end of a log file are no records; brokers never send them.
    """
    if type(data) is not bytes:
        stored, size = decode_stored(bytes(memoryview(data)[position:]))
        return stored, position + size
    try:
        (total_size, magic, body_crc, queue_id, flag, queue_offset, physical_offset, sys_flag, born_timestamp_ms,
         born_address, born_port, store_timestamp_ms, store_address, store_port, reconsume_times, prepared_offset,
         body_length) = _unpack_v4(data, position)  # fmt: skip
        body_start = position + _V4_SIZE
        if sys_flag & _HOSTS_V6:
            layout = _LAYOUTS[sys_flag & _HOSTS_V6]
            (born_address, born_port, store_timestamp_ms, store_address, store_port, reconsume_times, prepared_offset,
             body_length) = layout.unpack_from(data, position)[9:]  # fmt: skip
            body_start = position + layout.size
        if body_length < 0:
            raise _broken(position, f"the length of its body is {body_length}")
        body_end = body_start + body_length
        if magic == MAGIC_V1:
            topic_start = body_end + 1
            topic_length = data[body_end]
            if topic_length > _V1_TOPIC_BYTES_MAX:
                raise _broken(position, f"the length of its topic is {topic_length - 256}")
        elif magic == MAGIC_V2:
            topic_start = body_end + 2
            (topic_length,) = _unpack_short(data, body_end)
            if topic_length < 0:
                raise _broken(position, f"the length of its topic is {topic_length}")
        else:
            raise _broken(position, f"its magic {magic & 0xFFFFFFFF:08X} is unknown")
        topic_end = topic_start + topic_length
        (properties_length,) = _unpack_short(data, topic_end)
        properties_start = topic_end + 2
        end = properties_start + properties_length
        if properties_length < 0 or end != position + total_size or end > len(data):
            sizes = f"its size is {total_size}, that of its parts {end - position}"
            raise _broken(position, f"{sizes}, and {len(data) - position} bytes are left")
        topic = data[topic_start:topic_end].decode()
        property_string = data[properties_start:end].decode()
    except (struct.error, IndexError):
        raise _broken(position, f"it is cut off: {max(len(data) - position, 0)} bytes are left") from None
    except UnicodeDecodeError:
        raise _broken(position, "its topic or its properties are not UTF-8") from None
    return StoredMessage(
        total_size, magic, body_crc, queue_id, flag, queue_offset, physical_offset, sys_flag, born_timestamp_ms,
        (born_address, born_port), store_timestamp_ms, (store_address, store_port), reconsume_times, prepared_offset,
        data[body_start:body_end], topic, property_string,
    ), end


def _broken(position: int, why: str) -> LocalProtocolError:
    return LocalProtocolError(f"The stored message at byte {position} is broken: {why}.")


def decode_many(data: bytes | bytearray | memoryview) -> list[StoredMessage]:
    """All records in the body of an answer, in order.

    Raises:
        LocalProtocolError: as `decode_stored` does.
    """
    if type(data) is not bytes:
        data = bytes(data)
    size = len(data)
    messages: list[StoredMessage] = []
    position = 0
    while position < size:
        stored, position = decode_stored(data, position)
        messages.append(stored)
    return messages


def message_ext(stored: StoredMessage, broker_name: str) -> MessageExt:
    """The message as users see it. The body stays as it is stored.

    Args:
        stored: the record.
        broker_name: the broker that it came from; the record does not say.

    Raises:
        LocalProtocolError: a host's address has neither 4 nor 16 bytes.
    """
    return MessageExt(
        topic=stored.topic,
        body=stored.body,
        flag=stored.flag,
        queue=MessageQueue(stored.topic, broker_name, stored.queue_id),
        queue_offset=stored.queue_offset,
        physical_offset=stored.physical_offset,
        property_string=stored.property_string,
        offset_message_id=offset_message_id(*stored.store_host, stored.physical_offset),
        reconsume_times=stored.reconsume_times,
        born_timestamp_ms=stored.born_timestamp_ms,
        store_timestamp_ms=stored.store_timestamp_ms,
        born_host=host_text(*stored.born_host),
        store_host=host_text(*stored.store_host),
        body_crc=stored.body_crc,
        sys_flag=stored.sys_flag,
        prepared_transaction_offset=stored.prepared_transaction_offset,
    )


# Few hosts send and store very many messages.
@lru_cache(maxsize=1024)
def host_text(address: bytes, port: int) -> str:
    """`127.0.0.1:10911`, or `[::1]:10911` for an address of 16 bytes.

    Raises:
        LocalProtocolError: the address has neither 4 nor 16 bytes.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise LocalProtocolError(f"An address has 4 or 16 bytes, not {len(address)}.") from None
    return f"{ip}:{port}" if ip.version == 4 else f"[{ip}]:{port}"


def parse_host(text: str) -> tuple[bytes, int]:
    """Address and port in a text such as `127.0.0.1:10911` or `[::1]:10911`.

    Raises:
        LocalProtocolError: it is no such text. Host names are none: nothing is looked up here.
    """
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        ip = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        ip = None
    well_formed = ip is not None and bracketed == (ip.version == 6) and port.isascii() and port.isdigit()
    # The length first: Python refuses to convert thousands of digits.
    if ip is None or not well_formed or len(port) > 5 or int(port) > 0xFFFF:
        raise LocalProtocolError(f"{text[:80]!r} is not an address and a port, such as 127.0.0.1:10911 or [::1]:10911.")
    return ip.packed, int(port)
