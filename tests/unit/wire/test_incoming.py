"""What both ends make of a received header: the fast way, the lenient way, and no way at all."""

from __future__ import annotations

import msgspec
import pytest

from rocketmq_aio.codes import SerializeType
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand
from rocketmq_aio.wire.headers import (
    GetMaxOffsetRequestHeader,
    PullMessageResponseHeader,
    RegisterBrokerRequestHeader,
    SendMessageRequestHeaderV2,
    SendMessageResponseHeader,
    decode_fields,
    encode_fields,
)
from rocketmq_aio.wire.incoming import Reply, Request, decode_reply, decode_request

JSON, ROCKETMQ = SerializeType.JSON, SerializeType.ROCKETMQ
SENT = SendMessageResponseHeader(
    msg_id="7F000001", queue_id=3, queue_offset=2**40, transaction_id="T", msg_region="R", trace_on="false"
)


def received(command: RemotingCommand) -> tuple[int, bytes, bytes]:
    """What the reader makes of a command's frame."""
    (frame,) = FrameReader().feed(command.encode())
    return frame


@pytest.mark.parametrize("kind", [JSON, ROCKETMQ])
def test_reply_to_a_send(kind: SerializeType) -> None:
    """A send response is typed, whichever form it came in."""
    fields = encode_fields(SENT)
    frame = received(
        RemotingCommand(code=10, opaque=9, flag=1, remark="r", ext_fields=fields, body=b"b", serialize_type=kind)
    )
    reply = decode_reply(*frame)
    assert reply == Reply(10, 1, 9, 479, "r", SENT, kind, frame[1], b"b", 0.0)
    assert reply.is_response
    assert reply.fields(SendMessageResponseHeader) == SENT


def test_reply_with_other_fields() -> None:
    """Fields of other responses are read from the kept header, and unknown ones are ignored."""
    reply = decode_reply(JSON, b'{"opaque":1,"extFields":{"nextBeginOffset":"6","maxOffset":7,"new":"x"}}', b"")
    assert reply.ext_fields == SendMessageResponseHeader()
    assert reply.fields(PullMessageResponseHeader) == PullMessageResponseHeader(next_begin_offset=6, max_offset=7)
    assert reply.command().ext_fields == {"nextBeginOffset": "6", "maxOffset": "7", "new": "x"}


def test_reply_without_anything() -> None:
    """An empty header is a reply that matches no request; ext fields are None only if there are none."""
    assert decode_reply(JSON, b"{}", b"") == Reply(header=b"{}")
    assert Reply().opaque == -1
    assert decode_reply(JSON, b'{"extFields":null}', b"").ext_fields is None
    assert decode_reply(JSON, b'{"extFields":{}}', b"").ext_fields == SendMessageResponseHeader()


@pytest.mark.parametrize(
    "fields",
    [
        b'{"queueId":3,"queueOffset":5}',
        b'{"queueId":"3","queueOffset":"5","msgId":null}',
        b'{"queueId":"+3","queueOffset":"5"}',
        b'{"queueId":3,"queueOffset":5,"recallHandle":"x","transactionId":17}',
    ],
)
def test_lenient_reply(fields: bytes) -> None:
    """Numbers as numbers or texts, nulls, and texts as numbers are read as Java reads them."""
    reply = decode_reply(JSON, b'{"code":"0","opaque":"4","flag":1.0,"extFields":' + fields + b"}", b"")
    assert (reply.code, reply.opaque, reply.flag) == (0, 4, 1)
    assert reply.ext_fields is not None
    assert (reply.ext_fields.queue_id, reply.ext_fields.queue_offset) == (3, 5)
    assert reply.ext_fields.transaction_id == ("17" if b"17" in fields else None)
    assert reply.ext_fields.msg_id is None


def test_numbers_that_are_none() -> None:
    """A queue id that is no number, or does not fit, leaves the field empty, as in Java; the rest is read."""
    for text in ("x", "", "1.5", "2147483648", "-2147483649", " 3", "0x3", "1_0", "٣", "9" * 5000):
        header = msgspec.json.encode({"opaque": 1, "extFields": {"queueId": text, "queueOffset": "5"}})
        reply = decode_reply(JSON, header, b"")
        assert reply.ext_fields == SendMessageResponseHeader(queue_offset=5)


def test_local_attributes_are_not_the_peers() -> None:
    """No member of a header reaches the attributes that are set after decoding, and bodies do not leak from JSON."""
    own = b'"(serialize_type)":1,"(header)":"aGk=","(body)":"aGk=","(latency)":5.0,"(ext_map)":{"a":"x"}'
    names = b'"serialize_type":1,"header":"aGk=","body":"aGk=","latency":5.0,"ext_map":{"a":"x"}'
    for members in (own, names):
        for member in (members, *(part + b"}" if b"{" in part else part for part in members.split(b","))):
            header = b"{" + member.replace(b"}}", b"}") + b',"extFields":{"a":"group"}}'
            reply, request = decode_reply(JSON, header, b""), decode_request(JSON, header, b"")
            assert (reply.serialize_type, reply.header, reply.body, reply.latency) == (0, header, b"", 0.0)
            assert (request.serialize_type, request.header, request.body) == (0, header, b"")
            assert request.fields(SendMessageRequestHeaderV2).producer_group == "group"


@pytest.mark.parametrize("kind", [JSON, ROCKETMQ])
def test_request(kind: SerializeType) -> None:
    """A request keeps its fields undecoded until its class is known."""
    sent = SendMessageRequestHeaderV2(
        producer_group="G", topic="T", queue_id=-1, born_timestamp=1_700_000_000, properties="a\x01b\x02", batch=True
    )
    fields = encode_fields(sent)
    command = RemotingCommand(code=310, opaque=5, flag=2, ext_fields=fields, body=b"b", serialize_type=kind)
    request = decode_request(*received(command))
    assert (request.code, request.opaque, request.flag, request.version, request.body) == (310, 5, 2, 479, b"b")
    assert request.is_oneway
    assert not request.is_response
    assert request.fields(SendMessageRequestHeaderV2) == sent
    assert request.command() == command


@pytest.mark.parametrize("header", [b"{}", b'{"extFields":null}', b'{"extFields": {} }', b'{"code":"35"}'])
def test_request_without_fields(header: bytes) -> None:
    """No ext fields give the defaults of the class."""
    assert decode_request(JSON, header, b"").fields(GetMaxOffsetRequestHeader) == GetMaxOffsetRequestHeader()
    assert GetMaxOffsetRequestHeader().committed is True


def test_lenient_request() -> None:
    """Fields may be of any JSON type; nulls are absent, and what is no number is not set."""
    fields = b'{"brokerName":5,"brokerId":1,"compressed":"TRUE","bodyCrc32":"x","haServerAddr":null}'
    request = decode_request(JSON, b'{"code":"10","extFields":' + fields + b"}", b"")
    assert request.code == 10
    assert request.fields(RegisterBrokerRequestHeader) == RegisterBrokerRequestHeader(
        broker_name="5", broker_id=1, compressed=True, body_crc32=0
    )


def test_booleans() -> None:
    """Only "true" in any case is true, like Java; every other text is false."""
    for text, value in (("true", True), ("TRUE", True), ("false", False), ("yes", False), ("", False)):
        assert decode_fields(GetMaxOffsetRequestHeader, {"committed": text}).committed is value
        request = decode_request(JSON, msgspec.json.encode({"extFields": {"committed": text}}), b"")
        assert request.fields(GetMaxOffsetRequestHeader).committed is value


@pytest.mark.parametrize(
    "fields",
    [b'{"a":"\xff"}', b'{"\xff":"v","a":1}', b"[]", b'"x"', b"3"],
)
def test_fields_that_cannot_be_read(fields: bytes) -> None:
    """Fields are only looked at when asked for; then what is not an object of UTF-8 text is a LocalProtocolError."""
    request = decode_request(JSON, b'{"code":310,"extFields":' + fields + b"}", b"")
    assert request.code == 310
    with pytest.raises(LocalProtocolError, match="cannot be read"):
        request.fields(SendMessageRequestHeaderV2)
    with pytest.raises(LocalProtocolError, match="cannot be read"):
        request.command()
    with pytest.raises(LocalProtocolError, match="cannot be read"):
        decode_reply(JSON, request.header, b"").fields(SendMessageRequestHeaderV2)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"null",
        b'{"code":2147483648}',
        b'{"opaque":2147483648}',
        b'{"opaque":NaN}',
        b'{"remark":"\xff"}',
        b'{"remark":"\\ud800"}',
        b'{"code":1' + b"0" * 5000 + b"}",
        b'{"extFields":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000,
    ],
    ids=lambda header: header[:24].decode("latin-1") + f" of {len(header)}",
)
def test_hostile_header(header: bytes) -> None:
    """Both decoders give a LocalProtocolError and nothing else."""
    for decode in (decode_reply, decode_request):
        with pytest.raises(LocalProtocolError):
            decode(JSON, header, b"")
    with pytest.raises(LocalProtocolError):
        decode_reply(ROCKETMQ, header, b"")
    with pytest.raises(LocalProtocolError):
        decode_request(7, header, b"")


def test_request_kept_by_hand() -> None:
    """A request that was made and not received has the defaults of its class."""
    assert Request(code=30).fields(GetMaxOffsetRequestHeader) == GetMaxOffsetRequestHeader()
