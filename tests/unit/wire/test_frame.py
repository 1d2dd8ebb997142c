"""Frames: what a command looks like on the wire, what cannot be written, and what a hostile stream cannot do."""

from __future__ import annotations

import struct

import pytest

from rocketmq_aio.codes import FLAG_ONEWAY, FLAG_RESPONSE, LanguageCode, SerializeType
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.wire.frame import FRAME_BYTES_MAX, FrameReader, RemotingCommand, encode_frame

GOOD = RemotingCommand(code=34, opaque=7, ext_fields={"k": "v"}, body=b"body")
BOTH_FORMS = [SerializeType.JSON, SerializeType.ROCKETMQ]


def prefix(length: int, word: int) -> bytes:
    """The first eight bytes of a frame."""
    return struct.pack(">iI", length, word)


def test_json_frame() -> None:
    """The JSON form has Java's members in Java's order, and leaves out what is None."""
    command = RemotingCommand(code=105, opaque=1, ext_fields={"topic": "T", "b": "ü\x01"}, remark=None)
    header = (
        '{"code":105,"extFields":{"topic":"T","b":"ü\\u0001"},"flag":0,"language":"PYTHON","opaque":1,'
        '"serializeTypeCurrentRPC":"JSON","version":479}'
    ).encode()
    assert command.encode() == prefix(4 + len(header), len(header)) + header


def test_binary_frame() -> None:
    """The binary form has its fields at Java's offsets."""
    command = RemotingCommand(
        code=34, opaque=-2, flag=2, version=407, remark="r", ext_fields={"ab": "ü"}, body=b"B",
        language=LanguageCode.GO, serialize_type=SerializeType.ROCKETMQ,
    )  # fmt: skip
    header = bytes.fromhex("0022 09 0197 fffffffe 00000002 00000001 72 0000000a 0002 6162 00000002 c3bc")
    assert command.encode() == prefix(4 + len(header) + 1, 1 << 24 | len(header)) + header + b"B"


@pytest.mark.parametrize("kind", BOTH_FORMS)
@pytest.mark.parametrize("language", [None, *LanguageCode])
def test_round_trip(kind: SerializeType, language: LanguageCode | None) -> None:
    """What is written is read, in both forms; only an unknown language comes back from JSON as Java's default."""
    command = RemotingCommand(
        code=-1, opaque=-(2**31), flag=2**31 - 1, language=language, version=612, remark='a"\\\n\u2028',
        ext_fields={"": "", "k": "😀\0"}, body=bytes(range(256)), serialize_type=kind,
    )  # fmt: skip
    ((found_kind, header, body),) = FrameReader().feed(command.encode())
    read = RemotingCommand.decode(found_kind, header, body)
    if kind == SerializeType.JSON and language is None:
        assert read.language == LanguageCode.JAVA
        read.language = None
    assert read == command


@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize("oneway", [False, True])
def test_flag_bits(response: bool, oneway: bool) -> None:
    """Bit 0 marks a response, bit 1 a one-way request; other bits say nothing."""
    assert (FLAG_RESPONSE, FLAG_ONEWAY) == (1, 2)
    for extra in (0, 4, 2**30):
        command = RemotingCommand(code=0, flag=response * FLAG_RESPONSE | oneway * FLAG_ONEWAY | extra)
        assert (command.is_response, command.is_oneway) == (response, oneway)


@pytest.mark.parametrize("kind", BOTH_FORMS)
def test_signer_adds_fields(kind: SerializeType) -> None:
    """A signer sees fields and body; what it returns is in the frame, but not in the command."""

    def sign(ext_fields: dict[str, str], body: bytes) -> dict[str, str]:
        return {"Signature": "+".join([*ext_fields.values(), body.decode()])}

    for fields in ({"k": "v"}, None):
        command = RemotingCommand(code=34, ext_fields=fields, body=b"body", serialize_type=kind)
        (frame,) = FrameReader().feed(command.encode(sign))
        expected = {**(fields or {}), "Signature": "v+body" if fields else "body"}
        assert RemotingCommand.decode(*frame).ext_fields == expected
        assert command.ext_fields == fields


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (RemotingCommand(code=2**31), "header cannot be written"),
        (RemotingCommand(code=0, opaque=-(2**31) - 1), "header cannot be written"),
        (RemotingCommand(code=32768, serialize_type=1), "header cannot be written"),
        (RemotingCommand(code=0, version=40000, serialize_type=1), "header cannot be written"),
        (RemotingCommand(code=0, ext_fields={"k" * 32768: ""}, serialize_type=1), "header cannot be written"),
        (RemotingCommand(code=0, remark="\ud800"), "not UTF-8"),
        (RemotingCommand(code=0, remark="\ud800", serialize_type=1), "not UTF-8"),
        (RemotingCommand(code=0, ext_fields={"k": "\udfff"}), "not UTF-8"),
        (RemotingCommand(code=0, ext_fields={"\udfff": "v"}, serialize_type=1), "not UTF-8"),
        (RemotingCommand(code=0, serialize_type=2), "no serialize type 2"),
    ],
)
def test_what_does_not_fit_is_refused(command: RemotingCommand, reason: str) -> None:
    """Numbers and texts that a form cannot express are errors, never truncated."""
    with pytest.raises(LocalProtocolError, match=reason):
        command.encode()


def test_largest_frame() -> None:
    """A frame of exactly the limit can be written and read; one byte more cannot be written."""
    body = bytes(FRAME_BYTES_MAX - 10)
    frame = encode_frame(SerializeType.JSON, b"{}", body)
    assert len(frame) == FRAME_BYTES_MAX
    assert FrameReader().feed(frame) == [(0, b"{}", body)]
    with pytest.raises(LocalProtocolError, match="larger than the limit"):
        encode_frame(SerializeType.JSON, b"{}", body + b"x")


def test_reader_takes_chunks_of_any_size() -> None:
    """Frames arrive whole, in pieces, several at once, and with the start of the next; `buffered` says what is kept."""
    one, two = GOOD.encode(), RemotingCommand(code=0, serialize_type=SerializeType.ROCKETMQ).encode()
    stream = one + two + one
    expected = FrameReader().feed(one) + FrameReader().feed(two) + FrameReader().feed(one)
    for cut in range(len(stream) + 1):
        reader = FrameReader()
        first = reader.feed(stream[:cut])
        assert reader.buffered == cut - sum(8 + len(header) + len(body) for _, header, body in first)
        assert first + reader.feed(stream[cut:]) == expected
        assert reader.buffered == 0
    reader = FrameReader()
    assert [frame for byte in stream for frame in reader.feed(bytes([byte]))] == expected
    assert reader.feed(b"") == []
    assert reader.error is None


def test_reader_gives_bytes_of_its_own() -> None:
    """Headers and bodies are bytes that later data cannot change."""
    reader = FrameReader()
    data = GOOD.encode()
    assert reader.feed(data[:20]) == []
    ((_, header, body),) = reader.feed(data[20:])
    assert type(header) is type(body) is bytes
    reader.feed(bytes([0xFF]) * 3)
    assert body == b"body"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (prefix(-1, 0), "length of -1"),
        (prefix(-(2**31), 0), "length of -2147483648"),
        (prefix(2**31 - 1, 0), "length of 2147483647"),
        (prefix(0, 0), "length of 0"),
        (prefix(3, 0), "length of 3"),
        (prefix(FRAME_BYTES_MAX - 3, 0), "length of 16777213"),
        (prefix(4, 1), "header of 1 bytes"),
        (prefix(10, 0xFFFFFF), "header of 16777215 bytes"),
        (prefix(10, 7), "header of 7 bytes"),
        (prefix(10, 2 << 24), "serialize type 2"),
        (prefix(10, 0xFF000000), "serialize type 255"),
        (b"GET / HT", "length of"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "length of"),
    ],
)
def test_reader_stops_at_a_violation(bad: bytes, reason: str) -> None:
    """The good frames before a bad one are returned; what was wrong is in `error`; nothing is read or kept afterwards.

    It does not matter where the stream is cut, and a bad length is noticed as soon as it is there.
    """
    good = GOOD.encode()
    for cut in range(len(good) + len(bad)):
        reader = FrameReader()
        stream = good + bad
        frames = reader.feed(stream[:cut]) + reader.feed(stream[cut:])
        assert len(frames) == 1
        assert reader.error is not None
        assert reason in str(reader.error)
        assert reader.feed(good) == []
        assert reader.feed(good[:5]) == []
        assert reader.buffered == 0
    if "length" in reason:
        reader = FrameReader()
        assert reader.feed(bad[:4]) == []
        assert reader.error is not None


def test_reader_waits_for_the_largest_frame() -> None:
    """A frame that announces the limit is waited for, and held once: its pieces cost no more than they are."""
    reader = FrameReader()
    assert reader.feed(prefix(FRAME_BYTES_MAX - 4, 2)) == []
    for _ in range(1000):
        assert reader.feed(b"x" * 1000) == []
    assert reader.error is None
    assert reader.buffered == 1_000_008
    ((_, header, body),) = reader.feed(b"x" * (FRAME_BYTES_MAX - 1_000_008))
    assert (len(header), len(body)) == (2, FRAME_BYTES_MAX - 10)
    assert reader.buffered == 0


def test_smallest_frame() -> None:
    """A frame without header and body is a frame; its header cannot be read."""
    assert FrameReader().feed(prefix(4, 0)) == [(0, b"", b"")]
    with pytest.raises(LocalProtocolError, match="header of 0 bytes"):
        RemotingCommand.decode(0, b"", b"")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b'"x"',
        b"{",
        b'{"code":1} x',
        b'{"code":NaN}',
        b'{"code":Infinity}',
        b'{"code":1e400}',
        b'{"code":' + b"9" * 5000 + b"}",
        b'{"code":"' + b"9" * 5000 + b'"}',
        b'{"code":2147483648}',
        b'{"code":-2147483649}',
        b'{"code":9223372036854775808}',
        b'{"code":"x"}',
        b'{"code":""}',
        b'{"code":"NaN"}',
        b'{"code":"1_0"}',
        b'{"code":"1e999"}',
        b'{"code":"1e10"}',
        b'{"code":"inf"}',
        b'{"code":true}',
        b'{"code":{}}',
        b'{"remark":"\xff"}',
        b'{"remark":"\\ud800"}',
        b'{"remark":"\\ud800x"}',
        b'{"remark":"\\udc00\\ud800"}',
        b'{"remark":"\\u12"}',
        b'{"remark":"a\0b"}',
        b'{"extFields":{"\xff":"v"}}',
        b'{"extFields":{"k":"\xff"}}',
        b'{"extFields":{"k":"\\ud800","n":1}}',
        b'{"extFields":[]}',
        b'{"extFields":"x"}',
        b'{"extFields":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000,
        b'{"extFields":' * 100_000,
    ],
    ids=lambda header: header[:24].decode("latin-1") + f" of {len(header)}",
)
def test_hostile_json(header: bytes) -> None:
    """Whatever a JSON header holds, a LocalProtocolError is all that comes out."""
    with pytest.raises(LocalProtocolError, match="cannot be read"):
        RemotingCommand.decode(SerializeType.JSON, header, b"")


def test_error_does_not_quote_the_header() -> None:
    """The text of the error names sizes and reasons, never keys or values."""
    for header in (b'{"remark":"se\xffcret"}', b'{"extFields":{"secret":"\xff"}}', b'{"code":"secret"}'):
        with pytest.raises(LocalProtocolError) as caught:
            RemotingCommand.decode(SerializeType.JSON, header, b"")
        assert "cret" not in str(caught.value)


def binary(tail: str) -> bytes:
    """A binary header up to its flag, and what follows."""
    return bytes.fromhex("0022 03 01df 00000001 00000000" + tail)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        binary(""),
        binary("00000000"),
        binary("ffffffff 00000000"),
        binary("7fffffff 00000000"),
        binary("00000002 41"),
        binary("00000001 ff 00000000"),
        binary("00000000 ffffffff"),
        binary("00000000 7fffffff"),
        binary("00000000 00000001 00"),
        binary("00000000 00000002 0000"),
        binary("00000000 00000007 ffff 00000001 41"),
        binary("00000000 00000008 0001 41 00000000 41"),
        binary("00000000 00000007 0001 41 00000001"),
        binary("00000000 00000008 0001 41 ffffffff 41"),
        binary("00000000 00000008 0001 41 7fffffff 41"),
        binary("00000000 00000008 0001 41 00000002 41 41"),
        binary("00000000 00000006 0002 41 41 00000000"),
        binary("00000000 00000008 0001 ff 00000001 41"),
        binary("00000000 00000008 0001 41 00000001 ff"),
    ],
    ids=bytes.hex,
)
def test_hostile_binary(header: bytes) -> None:
    """Lengths of a binary header that lie, and text that is not UTF-8, are LocalProtocolErrors."""
    with pytest.raises(LocalProtocolError, match="cannot be read"):
        RemotingCommand.decode(SerializeType.ROCKETMQ, header, b"")


def test_unknown_serialize_type() -> None:
    """A header of an unknown form is not guessed at."""
    with pytest.raises(LocalProtocolError, match="no serialize type 2"):
        RemotingCommand.decode(2, b"{}", b"")
