"""Clients that come and go: HEART_BEAT (34) and UNREGISTER_CLIENT (35).

What they change is the table in `client_table.py`.

Not simulated: retry topics are not created, and members are not told of each other.

Source: `ClientManageProcessor.java` (5.3.3).
"""

from __future__ import annotations

from broker_sim.requests.answer import Answer, Context, HandlerTable, Route
from broker_sim.requests.state import BrokerState
from rocketmq_aio.codes import RequestCode
from rocketmq_aio.wire.bodies import HeartbeatData, decode_json
from rocketmq_aio.wire.headers import HeartbeatRequestHeader, UnregisterClientRequestHeader

__all__ = ["HANDLERS"]


def heartbeat(context: Context[BrokerState], _header: HeartbeatRequestHeader, body: bytes) -> Answer:
    """Register a client's groups."""
    data = decode_json(HeartbeatData, body) if body else HeartbeatData()
    if not data.client_id:
        return Answer.lacking("clientID")
    changed = context.state.clients.take_heartbeat(context.connection, data)
    return Answer(fields={"IS_SUPPORT_HEART_BEAT_V2": "true", "IS_SUB_CHANGE": "true" if changed else "false"})


def unregister(context: Context[BrokerState], header: UnregisterClientRequestHeader, _body: bytes) -> Answer:
    """Take the connection out of the groups that are named."""
    context.state.clients.remove(context.connection, producer=header.producer_group, consumer=header.consumer_group)
    return Answer(fields={})


HANDLERS: HandlerTable = {
    RequestCode.HEART_BEAT: Route(HeartbeatRequestHeader, heartbeat),
    RequestCode.UNREGISTER_CLIENT: Route(UnregisterClientRequestHeader, unregister),
}
