"""The body of a batch: several messages of one topic, one after the other, in one frame.

Each is ``total size (4) | magic 0 (4) | CRC 0 (4) | flag (4) | body length (4) | body | properties length (2) |
properties``, big-endian. This file does not know which messages may travel together.

Source: `MessageDecoder.encodeMessages`, `MessageDecoder.decodeMessages` (5.3.3).
Differs: Java takes no notice of a total size that disagrees with the lengths inside; here such a body is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.properties import PROPERTY_BYTES_MAX

__all__ = ["decode_batch", "encode_batch"]

_HEAD = struct.Struct(">iiiii")
_SHORT = struct.Struct(">h")

#: Bytes of an entry besides its body and its properties.
_OVERHEAD = _HEAD.size + _SHORT.size


def encode_batch(entries: Iterable[tuple[int, bytes, str]]) -> bytes:
    """The body of a batch.

    Args:
        entries: flag, body and property string of each message, in order.

    Raises:
        LocalProtocolError: a flag, a length or a character cannot be expressed.
    """
    parts: list[bytes] = []
    add = parts.append
    pack_head, pack_short = _HEAD.pack, _SHORT.pack
    for flag, body, property_string in entries:
        try:
            properties = property_string.encode()
            body_length, properties_length = len(body), len(properties)
            add(pack_head(_OVERHEAD + body_length + properties_length, 0, 0, flag, body_length))
            add(body)
            add(pack_short(properties_length))
            add(properties)
        except UnicodeEncodeError:
            raise LocalProtocolError(
                f"Message {len(parts) // 4} of the batch: UTF-8 cannot express the lone surrogate in its properties."
            ) from None
        except struct.error:
            raise LocalProtocolError(
                f"Message {len(parts) // 4} of the batch: flag {flag}, {len(body)} bytes of body or "
                f"{len(properties)} bytes of properties do not fit (32 bits, 2 GiB, {PROPERTY_BYTES_MAX} bytes)."
            ) from None
    return b"".join(parts)


def decode_batch(data: bytes | bytearray | memoryview) -> list[tuple[int, bytes, str]]:
    """Flag, body and property string of each message in the body of a batch, in order.

    Raises:
        LocalProtocolError: the bytes are no such body: cut off, a length that lies or is negative, bad UTF-8.
    """
    data = bytes(data)
    size = len(data)
    entries: list[tuple[int, bytes, str]] = []
    position = 0
    while position < size:
        try:
            total, _magic, _crc, flag, body_length = _HEAD.unpack_from(data, position)
            body_start = position + _HEAD.size
            body_end = body_start + body_length
            if body_length < 0 or body_end > size:
                raise _broken(position, f"it has a body of {body_length} bytes, and {size - body_start} are left")
            (properties_length,) = _SHORT.unpack_from(data, body_end)
        except struct.error:
            raise _broken(position, f"it is cut off: {size - position} bytes are left") from None
        end = body_end + _SHORT.size + properties_length
        if properties_length < 0 or end != position + total or end > size:
            parts = f"head and body: {body_end - position}, properties: {properties_length}"
            raise _broken(position, f"its size {total} does not fit its parts ({parts}); {size - position} are left")
        try:
            property_string = data[body_end + _SHORT.size : end].decode()
        except UnicodeDecodeError:
            raise _broken(position, "its properties are not UTF-8") from None
        entries.append((flag, data[body_start:body_end], property_string))
        position = end
    return entries


def _broken(position: int, why: str) -> LocalProtocolError:
    return LocalProtocolError(f"The message at byte {position} of the batch is broken: {why}.")
