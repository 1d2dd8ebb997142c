"""The typed headers of requests and responses, and their way to and from the ext fields of a frame.

Classes have Java's names, and their fields Java's order; the names on the wire are Java's field names or letters. No
field is mandatory here: Java only logs a missing one and carries on with null, so that is for the handlers to judge.

Source: the classes of the same names below `org/apache/rocketmq/remoting/protocol/header`, `RemotingCommand.java`
(`makeCustomHeaderToNet`, `decodeCommandCustomHeader`), `FastCodesHeader.java` (5.3.3).
Differs: a broker puts MSG_REGION and TRACE_ON beside the fields of a send response; here they belong to its class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args

import msgspec
from msgspec import field

__all__ = [
    "REQUEST_HEADERS", "CreateTopicRequestHeader", "DeleteTopicRequestHeader", "GetEarliestMsgStoretimeRequestHeader",
    "GetEarliestMsgStoretimeResponseHeader", "GetMaxOffsetRequestHeader", "GetMaxOffsetResponseHeader",
    "GetMinOffsetRequestHeader", "GetMinOffsetResponseHeader", "GetRouteInfoRequestHeader", "HeartbeatRequestHeader",
    "PullMessageRequestHeader", "PullMessageResponseHeader", "QueryDataVersionRequestHeader",
    "QueryDataVersionResponseHeader", "RegisterBrokerRequestHeader", "RegisterBrokerResponseHeader", "RpcRequestHeader",
    "SearchOffsetRequestHeader", "SearchOffsetResponseHeader", "SendMessageRequestHeader", "SendMessageRequestHeaderV2",
    "SendMessageResponseHeader", "TopicRequestHeader", "UnRegisterBrokerRequestHeader", "UnregisterClientRequestHeader",
    "ViewMessageRequestHeader", "decode_fields", "encode_fields",
]

Int = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Long = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)

H = TypeVar("H", bound=msgspec.Struct)


class RpcRequestHeader(msgspec.Struct, rename="camel", kw_only=True):
    """What most requests have in common; servers may ignore all of it."""

    ns: str | None = None
    nsd: bool | None = None
    bname: str | None = None
    oway: bool | None = None


class TopicRequestHeader(RpcRequestHeader, rename="camel", kw_only=True):
    """What requests about a topic have in common. `lo`=False: the queue id is physical, not one of a static topic."""

    lo: bool | None = None


class SendMessageRequestHeader(TopicRequestHeader, rename="camel"):
    """SEND_MESSAGE (10): the long names."""

    producer_group: str | None = None
    topic: str | None = None
    default_topic: str | None = None
    default_topic_queue_nums: Int | None = None
    queue_id: Int | None = None
    sys_flag: Int | None = None
    born_timestamp: Long | None = None
    flag: Int | None = None
    properties: str | None = None
    reconsume_times: Int | None = None
    unit_mode: bool | None = None
    batch: bool | None = None
    max_reconsume_times: Int | None = None


class SendMessageRequestHeaderV2(TopicRequestHeader):
    """SEND_MESSAGE_V2 (310) and SEND_BATCH_MESSAGE (320): one letter for each field."""

    producer_group: str | None = field(default=None, name="a")
    topic: str | None = field(default=None, name="b")
    default_topic: str | None = field(default=None, name="c")
    default_topic_queue_nums: Int | None = field(default=None, name="d")
    queue_id: Int | None = field(default=None, name="e")
    sys_flag: Int | None = field(default=None, name="f")
    born_timestamp: Long | None = field(default=None, name="g")
    flag: Int | None = field(default=None, name="h")
    properties: str | None = field(default=None, name="i")
    reconsume_times: Int | None = field(default=None, name="j")
    unit_mode: bool | None = field(default=None, name="k")
    max_reconsume_times: Int | None = field(default=None, name="l")
    batch: bool | None = field(default=None, name="m")
    broker_name: str | None = field(default=None, name="n")


class SendMessageResponseHeader(msgspec.Struct, rename="camel", gc=False):
    """The answer to a send. `trace_on` is the text: "false" switches tracing off, anything else does not."""

    msg_id: str | None = None
    queue_id: Int | None = None
    queue_offset: Long | None = None
    transaction_id: str | None = None
    batch_uniq_id: str | None = None
    recall_handle: str | None = None
    msg_region: str | None = field(default=None, name="MSG_REGION")
    trace_on: str | None = field(default=None, name="TRACE_ON")


class GetRouteInfoRequestHeader(TopicRequestHeader, rename="camel"):
    """GET_ROUTEINFO_BY_TOPIC (105)."""

    topic: str | None = None
    accept_standard_json_only: bool | None = None


class HeartbeatRequestHeader(RpcRequestHeader):
    """HEART_BEAT (34): nothing of its own."""


class UnregisterClientRequestHeader(RpcRequestHeader, rename="camel"):
    """UNREGISTER_CLIENT (35)."""

    client_id: str | None = field(default=None, name="clientID")
    producer_group: str | None = None
    consumer_group: str | None = None


class RegisterBrokerRequestHeader(msgspec.Struct, rename="camel"):
    """REGISTER_BROKER (103). `body_crc32` is 0 when the body is not to be checked."""

    broker_name: str | None = None
    broker_addr: str | None = None
    cluster_name: str | None = None
    ha_server_addr: str | None = None
    broker_id: Long | None = None
    heartbeat_timeout_millis: Long | None = None
    enable_acting_master: bool | None = None
    compressed: bool = False
    body_crc32: Int | None = field(default=0, name="bodyCrc32")


class RegisterBrokerResponseHeader(msgspec.Struct, rename="camel"):
    """The answer to REGISTER_BROKER: the master's addresses, for a slave."""

    ha_server_addr: str | None = None
    master_addr: str | None = None


class UnRegisterBrokerRequestHeader(msgspec.Struct, rename="camel"):
    """UNREGISTER_BROKER (104)."""

    broker_name: str | None = None
    broker_addr: str | None = None
    cluster_name: str | None = None
    broker_id: Long | None = None


class QueryDataVersionRequestHeader(UnRegisterBrokerRequestHeader, rename="camel"):
    """QUERY_DATA_VERSION (322); the body is the broker's DataVersion."""


class QueryDataVersionResponseHeader(msgspec.Struct):
    """The answer to QUERY_DATA_VERSION."""

    changed: bool | None = None


class PullMessageRequestHeader(TopicRequestHeader, rename="camel"):
    """PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361)."""

    consumer_group: str | None = None
    topic: str | None = None
    queue_id: Int | None = None
    queue_offset: Long | None = None
    max_msg_nums: Int | None = None
    sys_flag: Int | None = None
    commit_offset: Long | None = None
    suspend_timeout_millis: Long | None = None
    subscription: str | None = None
    sub_version: Long | None = None
    expression_type: str | None = None
    max_msg_bytes: Int | None = None
    request_source: Int | None = None
    proxy_froward_client_id: str | None = None


class PullMessageResponseHeader(msgspec.Struct, rename="camel"):
    """The answer to a pull; the first four fields are there for codes 0, 19, 20 and 21."""

    suggest_which_broker_id: Long | None = None
    next_begin_offset: Long | None = None
    min_offset: Long | None = None
    max_offset: Long | None = None
    offset_delta: Long | None = None
    topic_sys_flag: Int | None = None
    group_sys_flag: Int | None = None
    forbidden_type: Int | None = None


class GetMaxOffsetRequestHeader(TopicRequestHeader, rename="camel"):
    """GET_MAX_OFFSET (30)."""

    topic: str | None = None
    queue_id: Int | None = None
    committed: bool = True


class GetMaxOffsetResponseHeader(msgspec.Struct):
    """The answer to GET_MAX_OFFSET: the offset that the next message gets."""

    offset: Long | None = None


class GetMinOffsetRequestHeader(TopicRequestHeader, rename="camel"):
    """GET_MIN_OFFSET (31)."""

    topic: str | None = None
    queue_id: Int | None = None


class GetMinOffsetResponseHeader(GetMaxOffsetResponseHeader):
    """The answer to GET_MIN_OFFSET."""


class SearchOffsetRequestHeader(TopicRequestHeader, rename="camel"):
    """SEARCH_OFFSET_BY_TIMESTAMP (29). `boundary_type` is UPPER in any case, or else LOWER."""

    topic: str | None = None
    queue_id: Int | None = None
    timestamp: Long | None = None
    boundary_type: str | None = None


class SearchOffsetResponseHeader(GetMaxOffsetResponseHeader):
    """The answer to SEARCH_OFFSET_BY_TIMESTAMP."""


class GetEarliestMsgStoretimeRequestHeader(GetMinOffsetRequestHeader, rename="camel"):
    """GET_EARLIEST_MSG_STORETIME (32)."""


class GetEarliestMsgStoretimeResponseHeader(msgspec.Struct):
    """The answer to GET_EARLIEST_MSG_STORETIME: milliseconds since 1970, -1 if there is no message."""

    timestamp: Long | None = None


class ViewMessageRequestHeader(msgspec.Struct):
    """VIEW_MESSAGE_BY_ID (33). `offset` is the physical one."""

    topic: str | None = None
    offset: Long | None = None


class CreateTopicRequestHeader(TopicRequestHeader, rename="camel"):
    """UPDATE_AND_CREATE_TOPIC (17)."""

    topic: str | None = None
    default_topic: str | None = None
    read_queue_nums: Int | None = None
    write_queue_nums: Int | None = None
    perm: Int | None = None
    topic_filter_type: str | None = None
    topic_sys_flag: Int | None = None
    order: bool | None = False
    attributes: str | None = None
    force: bool | None = False


class DeleteTopicRequestHeader(TopicRequestHeader):
    """DELETE_TOPIC_IN_BROKER (215)."""

    topic: str | None = None


#: Request code → the class of its header.
REQUEST_HEADERS: dict[int, type[msgspec.Struct]] = {
    10: SendMessageRequestHeader,
    11: PullMessageRequestHeader,
    17: CreateTopicRequestHeader,
    29: SearchOffsetRequestHeader,
    30: GetMaxOffsetRequestHeader,
    31: GetMinOffsetRequestHeader,
    32: GetEarliestMsgStoretimeRequestHeader,
    33: ViewMessageRequestHeader,
    34: HeartbeatRequestHeader,
    35: UnregisterClientRequestHeader,
    103: RegisterBrokerRequestHeader,
    104: UnRegisterBrokerRequestHeader,
    105: GetRouteInfoRequestHeader,
    215: DeleteTopicRequestHeader,
    310: SendMessageRequestHeaderV2,
    320: SendMessageRequestHeaderV2,
    322: QueryDataVersionRequestHeader,
    361: PullMessageRequestHeader,
}

#: Class → for each field its attribute, its name on the wire, and its type: Int, Long, bool or str.
_tables: dict[type[msgspec.Struct], tuple[tuple[str, str, Any], ...]] = {}


def _table(cls: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    table = _tables.get(cls)
    if table is None:
        rows = []
        for info in msgspec.structs.fields(cls):
            kinds = [kind for kind in get_args(info.type) if kind is not type(None)]
            rows.append((info.name, info.encode_name, kinds[0] if type(None) in get_args(info.type) else info.type))
        table = _tables[cls] = tuple(rows)
    return table


def encode_fields(header: msgspec.Struct) -> dict[str, str]:
    """The ext fields of a header, in Java's order of declaration. None is left out."""
    fields = {}
    for attribute, name, _ in _table(type(header)):
        value = getattr(header, attribute)
        if value is None:
            continue
        if value is True:
            fields[name] = "true"
        elif value is False:
            fields[name] = "false"
        else:
            fields[name] = str(value)
    return fields


def decode_fields(cls: type[H], fields: Mapping[str, str]) -> H:
    """The header that Java makes of ext fields.

    What is missing, or is no number of the right size where one is expected, leaves the default. A boolean is true if
    its text is "true" in any case, and false otherwise.
    """
    values: dict[str, Any] = {}
    for attribute, name, kind in _table(cls):
        text = fields.get(name)
        if text is None:
            continue
        if kind is str:
            values[attribute] = text
        elif kind is bool:
            values[attribute] = text.lower() == "true"
        elif _INTEGER.fullmatch(text):
            value = int(text)
            limit = 2**31 if kind is Int else 2**63
            if -limit <= value < limit:
                values[attribute] = value
    return cls(**values)
