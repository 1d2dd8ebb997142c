"""Two encoders, one output: a send's prepared header against the generic one, over everything text can hold."""

from __future__ import annotations

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from rocketmq_aio.codes import VERSION, RequestCode
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand, encode_frame
from rocketmq_aio.wire.headers import SendMessageRequestHeaderV2, decode_fields, encode_fields
from rocketmq_aio.wire.template import encode_text, plain_template, send_template

#: All of Unicode but surrogates, which UTF-8 cannot express, with what formatting and JSON could trip over made likely.
AWKWARD = "%\"\\'{}\x00\x01\x02\x08\x1f\x7f\x80\x9f\u2028\u2029\ufeff\uffff\U0001f600\U0010ffff/ds(b"
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.sampled_from(AWKWARD)),
    st.lists(st.sampled_from(["%", "%%", "%d", "%b", "%(x)s", "%s", '"', "\\", "\\u0041", "é", "中"])).map("".join),
)
INT32 = st.integers(-(2**31), 2**31 - 1)
HEADERS = st.builds(
    SendMessageRequestHeaderV2,
    producer_group=TEXT,
    topic=TEXT,
    default_topic=TEXT,
    default_topic_queue_nums=INT32,
    queue_id=INT32,
    sys_flag=INT32,
    born_timestamp=st.integers(-(2**63), 2**63 - 1),
    flag=INT32,
    properties=TEXT,
    reconsume_times=INT32,
    unit_mode=st.booleans(),
    batch=st.booleans(),
    broker_name=TEXT,
)


def both(
    header: SendMessageRequestHeaderV2, opaque: int, code: int, flag: int, version: int, body: bytes
) -> tuple[bytes, bytes]:
    """The frame by the template of the header's lane, and by the generic encoder."""
    lane_header = msgspec.structs.replace(header, born_timestamp=0, flag=0, properties="")
    template = send_template(lane_header, code=code, flag=flag, version=version)
    prepared = template % (header.born_timestamp, header.flag, encode_text(header.properties), opaque)
    command = RemotingCommand(
        code=code, opaque=opaque, flag=flag, version=version, ext_fields=encode_fields(header), body=body
    )
    return encode_frame(0, prepared, body), command.encode()


def header_of(**changes: object) -> SendMessageRequestHeaderV2:
    """A usual header with some members changed."""
    usual = SendMessageRequestHeaderV2(
        producer_group="g", topic="T", default_topic="TBW102", default_topic_queue_nums=4, queue_id=0, sys_flag=0,
        born_timestamp=1_700_000_000_000, flag=0, properties="", reconsume_times=0, unit_mode=False, batch=False,
        broker_name="broker-a",
    )
    return msgspec.structs.replace(usual, **changes)


@given(
    header=HEADERS, opaque=st.integers(0, 2**31 - 1), code=INT32, flag=INT32, version=INT32,
    body=st.binary(max_size=50),
)
@example(header_of(topic="%RETRY%group", producer_group="ns%group"), 0, RequestCode.SEND_MESSAGE_V2, 0, VERSION, b"x")
@example(header_of(topic='a"b\\c', broker_name="%d%b%%"), 2**31 - 1, RequestCode.SEND_MESSAGE_V2, 2, VERSION, b"x")
@example(header_of(properties='TAGS\x01"%d"\x02k\x01\x00\u2028😀\x02'), 1, RequestCode.SEND_MESSAGE_V2, 0, VERSION, b"")
@example(header_of(born_timestamp=2**63 - 1, flag=-(2**31)), 1, RequestCode.SEND_MESSAGE_V2, 0, VERSION, b"")
def test_template_and_generic_encoder_give_the_same_bytes(
    header: SendMessageRequestHeaderV2, opaque: int, code: int, flag: int, version: int, body: bytes
) -> None:
    """Byte for byte, whatever stands in names and properties."""
    prepared, generic = both(header, opaque, code, flag, version, body)
    assert prepared == generic


@given(header=HEADERS, opaque=st.integers(0, 2**31 - 1))
def test_what_the_template_gives_is_read_back(header: SendMessageRequestHeaderV2, opaque: int) -> None:
    """Not only equal: a reader finds every field as it was given."""
    prepared, _ = both(header, opaque, RequestCode.SEND_MESSAGE_V2, 0, VERSION, b"body")
    command = RemotingCommand.decode(*FrameReader().feed(prepared)[0])
    assert (command.code, command.opaque, command.body) == (RequestCode.SEND_MESSAGE_V2, opaque, b"body")
    assert decode_fields(SendMessageRequestHeaderV2, command.ext_fields or {}) == header


@given(header=HEADERS, first=TEXT, second=TEXT)
def test_a_template_is_used_many_times(header: SendMessageRequestHeaderV2, first: str, second: str) -> None:
    """It keeps nothing of a message: what differs between two of them is what was put in."""
    template = send_template(header, code=310, flag=0, version=VERSION)
    fields = [(1, 2, encode_text(first), 3), (4, 5, encode_text(second), 6), (1, 2, encode_text(first), 3)]
    headers = [template % values for values in fields]
    assert headers[0] == headers[2]
    assert (headers[0] == headers[1]) is False


@given(header=HEADERS, name=st.sampled_from(["properties", "flag", "born_timestamp"]))
def test_the_placeholders_of_a_header_do_not_matter(header: SendMessageRequestHeaderV2, name: str) -> None:
    """A template made of a header that has a timestamp, a flag and properties already is the same."""
    blank = msgspec.structs.replace(header, **{name: "" if name == "properties" else 0})
    assert send_template(header, code=1, flag=0, version=1) == send_template(blank, code=1, flag=0, version=1)


@given(header=HEADERS, opaque=st.integers(0, 2**31 - 1), message_id=st.text("0123456789ABCDEF", max_size=56))
@example(header_of(topic='"i":%b', producer_group='"i":%b', broker_name='"i":"%b'), 1, "7F00")
def test_the_plain_template_gives_the_same_bytes(
    header: SendMessageRequestHeaderV2, opaque: int, message_id: str
) -> None:
    """The template of messages without properties of their own has only the place of the id left in them."""
    properties = f"UNIQ_KEY\x01{message_id}\x02WAIT\x01true\x02"
    lane_header = msgspec.structs.replace(header, born_timestamp=0, flag=0, properties="")
    template = send_template(lane_header, code=310, flag=0, version=VERSION)
    fields = header.born_timestamp, header.flag
    plain = plain_template(template) % (*fields, message_id.encode(), opaque)
    assert plain == template % (*fields, encode_text(properties), opaque)
