"""Where a queue begins and ends, and single messages: codes 29 to 33.

SEARCH_OFFSET_BY_TIMESTAMP (29), GET_MAX_OFFSET (30), GET_MIN_OFFSET (31), GET_EARLIEST_MSG_STORETIME (32) and
VIEW_MESSAGE_BY_ID (33). An unknown topic or queue is an empty queue, not an error.

Not simulated: offsets of consumer groups are not kept.

Source: `AdminBrokerProcessor.java`, `QueryMessageProcessor.java`, `DefaultMessageStore.java` (5.3.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_sim.requests.answer import Answer, Context, HandlerTable, Route
from broker_sim.requests.state import BrokerState
from rocketmq_aio.codes import RequestCode, ResponseCode
from rocketmq_aio.wire.headers import (
    GetEarliestMsgStoretimeRequestHeader,
    GetEarliestMsgStoretimeResponseHeader,
    GetMaxOffsetRequestHeader,
    GetMaxOffsetResponseHeader,
    GetMinOffsetRequestHeader,
    GetMinOffsetResponseHeader,
    SearchOffsetRequestHeader,
    SearchOffsetResponseHeader,
    ViewMessageRequestHeader,
)

if TYPE_CHECKING:
    from broker_sim.store.log import QueueLog

__all__ = ["HANDLERS"]


def _log(context: Context[BrokerState], topic: str | None, queue_id: int | None) -> QueueLog | None:
    return context.state.store.log(topic or "", -1 if queue_id is None else queue_id)


def max_offset(context: Context[BrokerState], header: GetMaxOffsetRequestHeader, _body: bytes) -> Answer:
    """The offset that the next message of the queue gets."""
    log = _log(context, header.topic, header.queue_id)
    return Answer.of(GetMaxOffsetResponseHeader(0 if log is None else log.next_offset))


def min_offset(_context: Context[BrokerState], _header: GetMinOffsetRequestHeader, _body: bytes) -> Answer:
    """The first offset that is still stored."""
    return Answer.of(GetMinOffsetResponseHeader(0))


def search_offset(context: Context[BrokerState], header: SearchOffsetRequestHeader, _body: bytes) -> Answer:
    """LOWER: the first offset stored at the time or later. UPPER: the last one stored at the time or earlier."""
    log = _log(context, header.topic, header.queue_id)
    if header.timestamp is None:
        return Answer.lacking("timestamp")
    if log is None:
        offset = 0
    elif (header.boundary_type or "").upper() == "UPPER":
        offset = max(0, log.first_stored_at_or_after(header.timestamp + 1) - 1)
    else:
        offset = log.first_stored_at_or_after(header.timestamp)
    return Answer.of(SearchOffsetResponseHeader(offset))


def earliest_store_time(
    context: Context[BrokerState], header: GetEarliestMsgStoretimeRequestHeader, _body: bytes
) -> Answer:
    """When the first message of the queue was stored; -1 if there is none."""
    log = _log(context, header.topic, header.queue_id)
    return Answer.of(GetEarliestMsgStoretimeResponseHeader(-1 if log is None else log.store_timestamp_ms(0)))


def view_message(context: Context[BrokerState], header: ViewMessageRequestHeader, _body: bytes) -> Answer:
    """The record that begins at a physical offset."""
    record = None if header.offset is None else context.state.store.find(header.offset)
    if record is None:
        remark = f"can not find message by the offset, {'null' if header.offset is None else header.offset}"
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark=remark)
    return Answer(body=record)


HANDLERS: HandlerTable = {
    RequestCode.SEARCH_OFFSET_BY_TIMESTAMP: Route(SearchOffsetRequestHeader, search_offset),
    RequestCode.GET_MAX_OFFSET: Route(GetMaxOffsetRequestHeader, max_offset),
    RequestCode.GET_MIN_OFFSET: Route(GetMinOffsetRequestHeader, min_offset),
    RequestCode.GET_EARLIEST_MSG_STORETIME: Route(GetEarliestMsgStoretimeRequestHeader, earliest_store_time),
    RequestCode.VIEW_MESSAGE_BY_ID: Route(ViewMessageRequestHeader, view_message),
}
