"""The prepared answer to a send has the same bytes as the generic encoder's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_sim.requests.answer import ReplyForm
from broker_sim.requests.send_form import SendForm, StoredAnswer
from rocketmq_aio.codes import SerializeType
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand

JSON = ReplyForm()
HOST = (b"\x7f\0\0\1", 20543)
int32 = st.integers(0, 2**31 - 1)
int64 = st.integers(0, 2**63 - 1)


def sending(region: str = "DefaultRegion", form: ReplyForm = JSON, host: tuple[bytes, int] = HOST) -> SendForm:
    return SendForm(cluster_name="DefaultCluster", region_id=region, store_host=host, form=form)


@given(
    queue_id=int32, physical=int64, offset=int64, opaque=st.integers(-(2**31), 2**31 - 1),
    unique_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    region=st.text(st.characters(exclude_categories=["Cs"])),
    address=st.sampled_from([b"\x7f\0\0\1", bytes(15) + b"\1"]), version=st.sampled_from([0, 479]),
)  # fmt: skip
def test_template_equals_generic_encoder(
    queue_id: int, physical: int, offset: int, opaque: int, unique_id: str, region: str, address: bytes, version: int
) -> None:
    """For any id, region, offset and number: quotes, control characters, percent signs and all of Unicode included."""
    form = ReplyForm(version=version)
    answer = StoredAnswer(sending(region, form, (address, 20543)), queue_id, unique_id, physical, offset)
    assert answer.frame(opaque, form) == answer.generic().frame(opaque, form)


def test_frame_as_java_writes_it() -> None:
    """Member for member the header that a 5.3.3 broker sent."""
    frame = StoredAnswer(sending(), 2, "C00002022EC44E0E2F2A778EA78C0000", 0xE3, 7).frame(126, JSON)
    header = (
        b'{"code":0,"extFields":{"queueId":"2","transactionId":"C00002022EC44E0E2F2A778EA78C0000",'
        b'"msgId":"7F0000010000503F00000000000000E3","TRACE_ON":"true","MSG_REGION":"DefaultRegion","queueOffset":"7"},'
        b'"flag":1,"language":"JAVA","opaque":126,"serializeTypeCurrentRPC":"JSON","version":479}'
    )
    assert frame == (len(header) + 4).to_bytes(4, "big") + len(header).to_bytes(4, "big") + header


@pytest.mark.parametrize("kind", [SerializeType.JSON, SerializeType.ROCKETMQ])
def test_both_forms_say_the_same(kind: SerializeType) -> None:
    """A broker that is configured for binary headers gives the same answer in that form."""
    form = ReplyForm(serialize_type=kind)
    frame = StoredAnswer(sending(form=form), 1, "id", 10, 3).frame(5, form)
    ((serialize_type, header, body),) = FrameReader().feed(frame)
    assert serialize_type == kind
    assert RemotingCommand.decode(serialize_type, header, body).ext_fields == {
        "queueId": "1", "transactionId": "id", "msgId": "7F0000010000503F000000000000000A", "TRACE_ON": "true",
        "MSG_REGION": "DefaultRegion", "queueOffset": "3",
    }  # fmt: skip
