"""Frames captured between Java clients, brokers and name servers of two versions."""

from __future__ import annotations

import zlib
from itertools import groupby
from typing import Any

import msgspec
import pytest

from rocketmq_aio.codes import FLAG_RESPONSE, LanguageCode, SerializeType, version_ordinal
from rocketmq_aio.wire import bodies
from rocketmq_aio.wire.bodies import decode_json, decode_register_compressed, encode_register_compressed
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand
from rocketmq_aio.wire.headers import REQUEST_HEADERS, SendMessageResponseHeader, decode_fields, encode_fields
from rocketmq_aio.wire.incoming import decode_reply, decode_request
from tests.golden import HERE, as_4_9_7, frame, read

SESSIONS = sorted(path.name for path in (HERE / "traffic").glob("*.jsonl"))

#: Request code and kind → the class of the JSON body.
BODIES: dict[tuple[int, str], type[msgspec.Struct]] = {
    (34, "request"): bodies.HeartbeatData,
    (103, "oneway"): bodies.RegisterBrokerBody,
    (103, "request"): bodies.RegisterBrokerBody,
    (103, "response"): bodies.KVTable,
    (105, "response"): bodies.TopicRouteData,
    (322, "oneway"): bodies.DataVersion,
    (322, "request"): bodies.DataVersion,
    (322, "response"): bodies.DataVersion,
}


ADDED = {"AccessKey", "ReqT", "Signature", "__ZONE_MODE", "__ZONE_NAME"}
"""Fields that hooks add to requests of any class."""
NOT_NUMBERS = {(1236, "e"), (1515, "e")}
"""By sequence number: hand-made requests with a queue id that is no number, which Java reads as null."""


@pytest.fixture(params=SESSIONS)
def lines(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The frames of one capture."""
    return read(f"traffic/{request.param}")


def parts(line: dict[str, Any]) -> tuple[int, bytes, bytes]:
    """The one frame of a line."""
    reader = FrameReader()
    (only,) = reader.feed(frame(line, ""))
    assert reader.error is None
    assert reader.buffered == 0
    return only


def captured_fields(line: dict[str, Any]) -> dict[str, str] | None:
    """The ext fields of a capture, which shows Java's null for an empty value of the binary form."""
    fields = line["extFields"]
    return None if fields is None else {name: value or "" for name, value in fields.items()}


def contains(ours: Any, captured: Any) -> bool:
    """Whether every member of a captured body, and all of each of its lists, has the same value in ours."""
    if isinstance(captured, dict):
        return all(name in ours and contains(ours[name], value) for name, value in captured.items())
    if isinstance(captured, list):
        return len(ours) == len(captured) and all(map(contains, ours, captured))
    return bool(ours == captured)


def test_captures_are_there() -> None:
    """Both versions and all kinds of conversation are checked."""
    assert {session.partition("-")[0] for session in SESSIONS} == {"4.9.7", "5.3.3"}
    assert {"producer", "route", "registration", "errors", "binary"} <= {session[6:-6] for session in SESSIONS}


def test_every_frame_is_read_and_written(lines: list[dict[str, Any]]) -> None:
    """Each captured frame says what the capture says, and is written again with its bytes."""
    for line in lines:
        command = RemotingCommand.decode(*parts(line))
        assert command == RemotingCommand(
            code=line["code"],
            opaque=line["opaque"],
            flag=line["flag"],
            language=LanguageCode[line["language"]],
            version=line["version"],
            remark=line["remark"],
            ext_fields=command.ext_fields if "extFields_shortened" in line else captured_fields(line),
            body=command.body,
            serialize_type=SerializeType[line["serialize"]],
        ), line["seq"]
        assert len(command.body) == line["body_length"]
        assert command.encode() == frame(line, ""), line["seq"]


def test_every_frame_is_read_fast(lines: list[dict[str, Any]]) -> None:
    """The decoders of both ends agree with the full one, and read the fields of the request's header class."""
    for line in lines:
        found = parts(line)
        command = RemotingCommand.decode(*found)
        reply, request = decode_reply(*found), decode_request(*found)
        assert reply.command() == request.command() == command
        assert reply.opaque == request.opaque == line["opaque"]
        assert reply.code == request.code == line["code"]
        fields = command.ext_fields
        assert reply.ext_fields == (None if fields is None else decode_fields(SendMessageResponseHeader, fields))
        if not line["flag"] & FLAG_RESPONSE and line["code"] in REQUEST_HEADERS:
            header_class = REQUEST_HEADERS[line["code"]]
            header = request.fields(header_class)
            assert header == decode_fields(header_class, fields or {})
            own = {
                name: value
                for name, value in (fields or {}).items()
                if name not in ADDED and (line["seq"], name) not in NOT_NUMBERS
            }
            assert encode_fields(header).items() >= own.items(), (line["seq"], line["code_name"])


def test_streams_split_anywhere(lines: list[dict[str, Any]]) -> None:
    """Each direction of each connection, cut into pieces of any size, gives the frames that were sent."""
    by_stream = sorted(lines, key=lambda line: (line["conn"], line["direction"], line["seq"]))
    for _, stream in groupby(by_stream, key=lambda line: (line["conn"], line["direction"])):
        sent = list(stream)
        data = b"".join(frame(line, "") for line in sent)
        for size in (1, 7, 1460, len(data)):
            reader = FrameReader()
            frames = [found for at in range(0, len(data), size) for found in reader.feed(data[at : at + size])]
            assert frames == [parts(line) for line in sent]
            assert reader.error is None
            assert reader.buffered == 0


def test_bodies_are_read(lines: list[dict[str, Any]]) -> None:
    """The JSON bodies that we know are read with all that they say.

    A route is written again with its bytes, in one of the two dialects.
    """
    for line in lines:
        body = parts(line)[2]
        cls = BODIES.get((line.get("request_code", line["code"]), line["kind"]))
        if cls is None or line["body_kind"] != "json":
            continue
        value = decode_json(cls, body)
        if isinstance(value, bodies.TopicRouteData):
            if line["version"] < version_ordinal("5.0.0"):
                as_4_9_7(value)
            assert body in (bodies.encode_route(value, True), bodies.encode_route(value, False)), line["seq"]
        else:
            assert contains(msgspec.json.decode(bodies.encode_json(value)), msgspec.json.decode(body)), line["seq"]


def test_compressed_registrations_are_read() -> None:
    """Captured compressed registrations are read, and written so that they inflate to the same bytes."""
    every = [line for session in SESSIONS for line in read(f"traffic/{session}")]
    compressed = [line for line in every if line["body_kind"] == "register_broker_zlib"]
    assert len(compressed) >= 2
    for line in compressed:
        body = parts(line)[2]
        registration = decode_register_compressed(body, line["version"])
        assert registration.topic_config_serialize_wrapper.topic_config_table
        if line["version"] < version_ordinal("5.0.0"):
            as_4_9_7(registration)
        written = encode_register_compressed(registration, line["version"])
        assert zlib.decompress(written) == zlib.decompress(body), line["seq"]
