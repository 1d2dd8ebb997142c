"""Any bytes give frames, commands or a `LocalProtocolError`; where a stream is cut does not matter.

The examples start from Java's own frames and change them, because random bytes seldom get past the first length.
"""

from __future__ import annotations

import struct
from itertools import pairwise

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketmq_aio.codes import LanguageCode, SerializeType
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.wire import bodies
from rocketmq_aio.wire.bodies import decode_json, decode_register_compressed, encode_json
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand
from rocketmq_aio.wire.headers import REQUEST_HEADERS, PullMessageRequestHeader
from rocketmq_aio.wire.incoming import decode_reply, decode_request
from tests.golden import frame, read

GOLDEN = [frame(line) for line in read("header_codec.jsonl")] + [
    frame(line) for line in read("header_decode.jsonl") if line["accepted"]
]
SHORT = sorted({data for data in GOLDEN if len(data) < 600})
TEXTS = [
    line[field].encode()
    for line in read("bodies.jsonl")
    for field in ("json_default", "json_standard", "text")
    if field in line
]
BODIES = [getattr(bodies, one) for one in bodies.__all__ if isinstance(getattr(bodies, one), type)]
REGISTRATIONS = [bytes.fromhex(line["compressed_hex"]) for line in read("bodies.jsonl") if "compressed_hex" in line]

#: What breaks parsers: extremes of integers, structure, escapes, bad UTF-8, numbers of every kind.
SPICE = [
    b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x01",
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"\\ud800", b"\\udc00", b"\\u0000", b"\xed\xa0\x80", b"\xc3",
    b"NaN", b"-Infinity", b"1e999", b"2147483648", b"9" * 400, b"-", b"null", b"true", b"1.5", b"{}", b"[[]]", b"''",
    b'"extFields":{"a":1}', b'"code":"x",', b'{"$ref":"$"}', b'{"$ref":".."}', b"[" * 300, b'{"a":' * 300,
]  # fmt: skip

FAST = settings(suppress_health_check=list(HealthCheck))
mutations = st.binary(min_size=4, max_size=12)
"""A program for `mutated`: one draw, because many small ones would take most of the time."""


def mutated(data: bytes, program: bytes) -> bytes:
    """The bytes with some of them replaced: each four bytes of a program say where, how many, and by what."""
    for at in range(0, len(program) - 3, 4):
        start = int.from_bytes(program[at : at + 2]) % (len(data) + 1)
        choice = program[at + 3]
        new = SPICE[choice] if choice < len(SPICE) else bytes([choice])
        data = data[:start] + new + data[start + program[at + 2] % 13 :]
    return data


def use_everything(kind: int, header: bytes, body: bytes) -> None:
    """Decode a frame in every way that there is, and use what came of it."""
    try:
        command = RemotingCommand.decode(kind, header, body)
    except LocalProtocolError:
        command = None
    if command is not None and command.language is not None:
        # What was read can be written, and means the same then.
        ((again_kind, again_header, again_body),) = FrameReader().feed(command.encode())
        again = RemotingCommand.decode(again_kind, again_header, again_body)
        if kind == SerializeType.ROCKETMQ and not again.ext_fields:
            again.ext_fields = command.ext_fields = None
        assert again == command
    try:
        reply = decode_reply(kind, header, body)
        assert command is None or (reply.code, reply.opaque) == (command.code, command.opaque)
        reply.command()
        reply.fields(PullMessageRequestHeader)
    except LocalProtocolError:
        pass
    try:
        request = decode_request(kind, header, body)
        assert command is None or (request.code, request.opaque) == (command.code, command.opaque)
        header_class = REQUEST_HEADERS.get(request.code, REQUEST_HEADERS[310])
        request.fields(header_class)
        request.command()
    except LocalProtocolError:
        pass


@settings(FAST, max_examples=12_000)
@given(st.sampled_from(SHORT), mutations)
def test_any_header_gives_a_command_or_a_protocol_error(data: bytes, changes: bytes) -> None:
    """A changed header never raises anything but LocalProtocolError; what is read can be written and read again."""
    (_, word) = struct.unpack_from(">II", data)
    header_end = 8 + (word & 0xFFFFFF)
    kind = word >> 24 if word >> 24 < 2 else 0
    use_everything(kind, mutated(data[8:header_end], changes), data[header_end:])


@settings(FAST, max_examples=3_000)
@given(st.lists(st.sampled_from(SHORT), min_size=1, max_size=3), mutations, st.integers(0, 1200))
def test_any_stream_gives_frames_or_an_error(
    frames: list[bytes], changes: bytes, cut: int
) -> None:
    """A changed stream never makes the reader raise, and gives the same wherever it is cut."""
    stream = mutated(b"".join(frames), changes)
    whole, parts = FrameReader(), FrameReader()
    cut %= len(stream) + 1
    found = whole.feed(stream)
    assert parts.feed(stream[:cut]) + parts.feed(stream[cut:]) == found
    assert str(parts.error) == str(whole.error)
    assert parts.buffered == whole.buffered
    if whole.error is None:
        assert sum(8 + len(header) + len(body) for _, header, body in found) + whole.buffered == len(stream)
    else:
        assert whole.buffered == 0
    for one in found:
        use_everything(*one)


@settings(FAST, max_examples=1_000)
@given(st.lists(st.sampled_from(SHORT[::9]), max_size=6), st.lists(st.integers(0, 2000), max_size=12))
def test_any_split_gives_the_same_frames(frames: list[bytes], cuts: list[int]) -> None:
    """However a stream is split into chunks, empty ones included, the frames are those of one feed."""
    stream = b"".join(frames)
    expected = FrameReader().feed(stream)
    bounds = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    reader = FrameReader()
    found = [one for start, end in pairwise(bounds) for one in reader.feed(stream[start:end])]
    assert found == expected
    assert reader.error is None
    assert reader.buffered == len(stream) - sum(8 + len(header) + len(body) for _, header, body in found)


texts = st.text(max_size=12)
int32 = st.integers(-(2**31), 2**31 - 1)
int16 = st.integers(-(2**15), 2**15 - 1)


@settings(FAST, max_examples=800)
@given(st.data(), st.sampled_from(SerializeType))
def test_any_command_comes_back(data: st.DataObject, kind: SerializeType) -> None:
    """Every command that can be written is read as it was."""
    small = int32 if kind == SerializeType.JSON else int16
    fields = data.draw(st.none() | st.dictionaries(texts, texts, max_size=4))
    command = RemotingCommand(
        code=data.draw(small),
        opaque=data.draw(int32),
        flag=data.draw(int32),
        language=data.draw(st.sampled_from(LanguageCode)),
        version=data.draw(small),
        remark=data.draw(st.none() | texts),
        ext_fields=fields,
        body=data.draw(st.binary(max_size=8)),
        serialize_type=kind,
    )
    (one,) = FrameReader().feed(command.encode())
    if kind == SerializeType.ROCKETMQ:  # which does not tell empty from absent
        command.remark, command.ext_fields = command.remark or None, fields or None
    assert RemotingCommand.decode(*one) == command


@settings(FAST, max_examples=3_200)
@given(st.sampled_from(TEXTS), mutations, st.sampled_from(BODIES))
def test_any_body_gives_a_value_or_a_protocol_error(
    data: bytes, changes: bytes, cls: type[msgspec.Struct]
) -> None:
    """A changed body, in either dialect, never raises anything but LocalProtocolError; what is read can be written."""
    try:
        value = decode_json(cls, mutated(data, changes))
    except LocalProtocolError:
        return
    assert decode_json(cls, encode_json(value)) == value


@settings(FAST, max_examples=1_000)
@given(st.sampled_from(REGISTRATIONS), mutations, st.sampled_from([407, 479]))
def test_any_registration_gives_a_value_or_a_protocol_error(
    data: bytes, changes: bytes, version: int
) -> None:
    """A changed compressed registration never raises anything but LocalProtocolError."""
    try:
        decode_register_compressed(mutated(data, changes), version)
    except LocalProtocolError:
        pass
