"""Brokers at name servers: REGISTER_BROKER (103), UNREGISTER_BROKER (104), QUERY_DATA_VERSION (322).

Not simulated: the table of ordered topics that goes back to brokers is always empty, and there are no filter servers.

Source: `DefaultRequestProcessor.java` of the name server, `RegisterBrokerBody.java` (5.3.3).
Differs: a registration without broker name, cluster name or address is refused; Java takes it, and breaks its tables.
"""

from __future__ import annotations

from zlib import crc32

from broker_sim.requests.answer import Answer, Context, HandlerTable, Route
from broker_sim.requests.registry import Registration, Registry
from rocketmq_aio.codes import RequestCode, ResponseCode
from rocketmq_aio.wire.bodies import (
    DataVersion,
    RegisterBrokerBody,
    TopicConfigSerializeWrapper,
    decode_json,
    decode_register_compressed,
    encode_json,
)
from rocketmq_aio.wire.headers import (
    QueryDataVersionRequestHeader,
    QueryDataVersionResponseHeader,
    RegisterBrokerRequestHeader,
    RegisterBrokerResponseHeader,
    UnRegisterBrokerRequestHeader,
)

__all__ = ["HANDLERS"]

#: The version ordinal of 3.0.11: older brokers send the topics alone.
WHOLE_BODY_FROM = 37
HEARTBEAT_TIMEOUT_MS = 120_000


def register(context: Context[Registry], header: RegisterBrokerRequestHeader, body: bytes) -> Answer:
    """Take a broker's topics into the tables."""
    if header.body_crc32 and header.body_crc32 != crc32(body) & 0x7FFFFFFF:
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark="crc32 not match")
    if header.broker_id is None or not (header.broker_name and header.cluster_name and header.broker_addr):
        remark = "java.lang.NullPointerException: the registration lacks a name, an address or the broker id"
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark=remark)
    topics = _topics(context.request.version, header, body)
    registration = Registration(
        cluster_name=header.cluster_name, broker_name=header.broker_name, broker_id=header.broker_id,
        broker_addr=header.broker_addr, ha_server_addr=header.ha_server_addr or "",
        enable_acting_master=header.enable_acting_master,
        heartbeat_timeout_ms=header.heartbeat_timeout_millis or HEARTBEAT_TIMEOUT_MS,
        topics=topics.topic_config_table, data_version=topics.data_version,
    )  # fmt: skip
    registry = context.state
    if not registry.register(registration, context.connection, context.connection.last_activity):
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark="register broker failed")
    master = registry.master_of(registration)
    return Answer.of(RegisterBrokerResponseHeader() if master is None else RegisterBrokerResponseHeader(*master))


def _topics(version: int, header: RegisterBrokerRequestHeader, body: bytes) -> TopicConfigSerializeWrapper:
    if not body:
        return TopicConfigSerializeWrapper()
    if version < WHOLE_BODY_FROM:
        return decode_json(TopicConfigSerializeWrapper, body)
    if header.compressed:
        return decode_register_compressed(body, version).topic_config_serialize_wrapper
    return decode_json(RegisterBrokerBody, body).topic_config_serialize_wrapper


def unregister(context: Context[Registry], header: UnRegisterBrokerRequestHeader, _body: bytes) -> Answer:
    """Take a broker out of the tables."""
    context.state.unregister(header.cluster_name or "", header.broker_name or "", header.broker_addr or "")
    return Answer()


def query_data_version(context: Context[Registry], header: QueryDataVersionRequestHeader, body: bytes) -> Answer:
    """Whether the tables differ from what the broker has; if not, the broker counts as alive."""
    theirs = decode_json(DataVersion, body) if body else DataVersion()
    ours = context.state.confirm(
        header.cluster_name or "", header.broker_addr or "", theirs, context.connection.last_activity
    )
    fields = QueryDataVersionResponseHeader(changed=ours != theirs)
    return Answer.of(fields, body=b"" if ours is None else encode_json(ours))


HANDLERS: HandlerTable = {
    RequestCode.REGISTER_BROKER: Route(RegisterBrokerRequestHeader, register),
    RequestCode.UNREGISTER_BROKER: Route(UnRegisterBrokerRequestHeader, unregister),
    RequestCode.QUERY_DATA_VERSION: Route(QueryDataVersionRequestHeader, query_data_version),
}
