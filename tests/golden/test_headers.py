"""Headers of Java's own encoder, hand-made headers that Java accepts or refuses, and Java's header classes."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from rocketmq_aio.codes import LanguageCode, SerializeType
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.wire import headers
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand
from rocketmq_aio.wire.headers import REQUEST_HEADERS, SendMessageResponseHeader, decode_fields, encode_fields
from rocketmq_aio.wire.incoming import decode_reply, decode_request
from tests.golden import frame, name, read

CODEC = read("header_codec.jsonl")
CLASSES = [line for line in read("header_classes.jsonl") if hasattr(headers, line["name"])]

OLD_ESCAPES = {("remark-escapes", "JSON"), ("ext-escapes", "JSON")}
"""Before 5.4.0 Java also escapes DEL, U+0080 to U+009F, U+2028 and U+2029, and uses capitals in hex digits."""
KEY_TWICE = ("send-v2-header-and-ext", "ROCKETMQ")
"""Java's fast encoder wrote one key twice; a dict cannot. Its slow encoder's frame is checked instead."""

REFUSED = {
    "raw-control-characters": "not JSON: inside a string U+0000 to U+001F are escaped",
    "raw-newline": "not JSON: inside a string U+0000 to U+001F are escaped",
    "single-quotes": "not JSON: 5.4.0 accepts single quotes",
    "trailing-comma": "not JSON: 5.4.0 accepts a comma behind the last member",
}
"""What every Java accepts and we do not."""
ACCEPTED = {"body-member": "an unknown member to us; 5.4.0 refuses it for its type, older Java overwrites it"}
"""What 5.4.0 refuses and we do not."""


def parts(data: bytes) -> tuple[int, bytes, bytes]:
    """The one frame in `data`."""
    reader = FrameReader()
    frames = reader.feed(data)
    if reader.error is not None:
        raise reader.error
    (only,) = frames
    assert reader.buffered == 0
    return only


def expected(line: dict[str, Any]) -> RemotingCommand:
    """What a line says about its frame. Java reads an empty text of the binary form as null, and keeps JSON's nulls."""
    decoded = line["decoded"]
    kind = SerializeType[decoded["serializeTypeCurrentRPC"]]
    fields: dict[str, str | None] | None = decoded["extFields"]
    ext_fields = None
    if fields is not None and kind == SerializeType.ROCKETMQ:
        ext_fields = {"" if key == "(null key)" else key: value or "" for key, value in fields.items()}
    elif fields is not None:
        ext_fields = {key: value for key, value in fields.items() if value is not None}
    return RemotingCommand(
        code=decoded["code"],
        opaque=-1 if isinstance(decoded["opaque"], str) else decoded["opaque"],
        flag=decoded["flag"],
        language=None if decoded["language"] is None else LanguageCode[decoded["language"]],
        version=decoded["version"],
        remark=decoded["remark"],
        ext_fields=ext_fields,
        body=bytes.fromhex(decoded["body_hex"] or ""),
        serialize_type=kind,
    )


@pytest.mark.parametrize("line", CODEC, ids=name)
def test_javas_frames_are_read(line: dict[str, Any]) -> None:
    """Every frame of Java's encoder says what Java put into it."""
    assert RemotingCommand.decode(*parts(frame(line))) == expected(line)


@pytest.mark.parametrize("line", CODEC, ids=name)
def test_javas_frames_are_written(line: dict[str, Any]) -> None:
    """What was read of a frame is written as the same bytes; its own order of ext fields is kept."""
    data = frame(line, "slow_frame" if (line["name"], line["serialize"]) == KEY_TWICE else "frame")
    command = RemotingCommand.decode(*parts(data))
    written = command.encode()
    if (line["name"], line["serialize"]) in OLD_ESCAPES and "5.4.0" not in line["origin"]:
        assert written != data
        assert RemotingCommand.decode(*parts(written)) == command
    else:
        assert written == data


@pytest.mark.parametrize("line", [line for line in CODEC if "slow_frame_hex" in line], ids=name)
def test_both_of_javas_encoders_are_read_alike(line: dict[str, Any]) -> None:
    """Java's fast and slow encoders order the ext fields differently; both are read, and written back."""
    slow = RemotingCommand.decode(*parts(frame(line, "slow_frame")))
    assert slow.encode() == frame(line, "slow_frame")
    if (line["name"], line["serialize"]) != KEY_TWICE:
        assert slow == RemotingCommand.decode(*parts(frame(line)))


@pytest.mark.parametrize("line", CODEC, ids=name)
def test_fast_decoders_agree(line: dict[str, Any]) -> None:
    """`decode_reply` and `decode_request` see what `RemotingCommand.decode` sees."""
    found = parts(frame(line))
    command = RemotingCommand.decode(*found)
    reply, request = decode_reply(*found), decode_request(*found)
    for fast in (reply, request):
        assert (fast.code, fast.flag, fast.opaque, fast.version, fast.remark, fast.body, fast.serialize_type) == (
            command.code, command.flag, command.opaque, command.version, command.remark, command.body,
            command.serialize_type,
        )  # fmt: skip
        assert fast.command() == command
    if command.ext_fields is None:
        assert reply.ext_fields is None
    else:
        assert reply.ext_fields == decode_fields(SendMessageResponseHeader, command.ext_fields)
    header_class = REQUEST_HEADERS.get(command.code, SendMessageResponseHeader)
    read_back = decode_fields(header_class, command.ext_fields or {})
    assert request.fields(header_class) == read_back
    assert reply.fields(header_class) == read_back


def newest(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each name the line of 5.4.0, if there is one, else that of 5.3.3."""
    chosen: dict[str, dict[str, Any]] = {}
    for line in lines:
        if "5.4.0" in line["origin"] or line["name"] not in chosen:
            chosen[line["name"]] = line
    return list(chosen.values())


@pytest.mark.parametrize("line", newest(read("header_decode.jsonl")), ids=name)
def test_odd_headers_are_read_as_java_does(line: dict[str, Any]) -> None:
    """We are as lenient as 5.4.0: what it accepts is read the same, what it refuses is a LocalProtocolError.

    The exceptions have their reasons beside their names.
    """
    accepted = (line["accepted"] and line["name"] not in REFUSED) or line["name"] in ACCEPTED
    if not accepted:
        with pytest.raises(LocalProtocolError):
            RemotingCommand.decode(*parts(frame(line)))
        return
    found = parts(frame(line))
    command = RemotingCommand.decode(*found)
    assert decode_reply(*found).command() == decode_request(*found).command() == command
    assert decode_reply(*found).opaque == decode_request(*found).opaque == command.opaque
    if line["accepted"]:
        assert command == expected(line)


def test_exceptions_are_needed() -> None:
    """Each exception contradicts what 5.4.0 does."""
    accepted = {line["name"]: line["accepted"] for line in newest(read("header_decode.jsonl"))}
    assert all(accepted[one] for one in REFUSED)
    assert not any(accepted[one] for one in ACCEPTED)


def java_type(info: msgspec.structs.FieldInfo) -> str:
    """The type of a field in Java's words, boxed."""
    kinds = [kind for kind in get_args(info.type) if kind is not type(None)]
    kind = kinds[0] if type(None) in get_args(info.type) else info.type
    return next(word for word, known in JAVA_TYPES.items() if known == kind)


JAVA_TYPES: dict[str, Any] = {"Integer": headers.Int, "Long": headers.Long, "Boolean": bool, "String": str}
BOXED = {"int": "Integer", "long": "Long", "boolean": "Boolean", "BoundaryType": "String"}


@pytest.mark.parametrize("line", CLASSES, ids=name)
def test_header_classes_have_javas_fields(line: dict[str, Any]) -> None:
    """Names and types are Java's; fields of the class itself are in Java's order (those of 4.9.7 may be fewer)."""
    header_class = getattr(headers, line["name"])
    ours = {info.encode_name: java_type(info) for info in msgspec.structs.fields(header_class)}
    java = {field["name"]: BOXED.get(field["type"], field["type"]) for field in line["fields"]}
    assert java.items() <= ours.items()
    own = [field["name"] for field in line["fields"] if field["declared_in"] == line["name"]]
    assert [field for field in ours if field in own] == own
    if "5.3.3" in line["origin"]:
        beside = {"MSG_REGION", "TRACE_ON"} if header_class is SendMessageResponseHeader else set()
        assert set(ours) - beside == set(java)


@pytest.mark.parametrize("line", CLASSES, ids=name)
def test_header_classes_read_and_write_javas_fields(line: dict[str, Any]) -> None:
    """A header with all fields set, and one with none, give Java's ext fields; 5.x adds fields that 4.9.7 lacks."""
    header_class = getattr(headers, line["name"])
    full = decode_fields(header_class, line["ext_full"])
    unset = encode_fields(header_class())
    if "5.3.3" in line["origin"]:
        assert encode_fields(full) == line["ext_full"]
        assert unset == line["ext_unset"]
    else:
        assert line["ext_full"].items() <= encode_fields(full).items()
    for field in ("full_json_frame", "full_rocketmq_frame"):
        if f"{field}_hex" not in line:
            continue
        found = parts(frame(line, field))
        carried = decode_request(*found).fields(header_class)
        if field == "full_rocketmq_frame" and "ext_full_rocketmq" in line:
            assert encode_fields(carried) == line["ext_full_rocketmq"]
        else:
            assert carried == full
            assert decode_reply(*found).fields(header_class) == full


def test_every_header_class_is_javas() -> None:
    """No class is checked against nothing."""
    exported = {one for one in headers.__all__ if one.endswith(("Header", "HeaderV2"))}
    assert exported - {line["name"] for line in CLASSES} == {"RpcRequestHeader", "TopicRequestHeader"}
    assert {cls.__name__ for cls in REQUEST_HEADERS.values()} <= exported
