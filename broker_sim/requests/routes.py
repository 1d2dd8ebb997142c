"""Routes, asked of name servers: GET_ROUTEINFO_BY_TOPIC (105).

The body is standard JSON for a client of version 4.9.4 or later, or one that asks for it; others get the dialect in
which broker ids stand bare. Either is compact: the Go client takes the text apart by its commas.

Not simulated: the order configuration of topics, acting masters and zones.

Source: `ClientRequestProcessor.java`, `RouteInfoManager.java` (`pickupTopicRouteData`) (5.3.3).
Differs: the remark of an unknown topic does not go on with the address of a web page.
"""

from __future__ import annotations

from broker_sim.requests.answer import Answer, Context, HandlerTable, Route
from broker_sim.requests.registry import Registry
from rocketmq_aio.codes import RequestCode, ResponseCode
from rocketmq_aio.wire.bodies import encode_route
from rocketmq_aio.wire.headers import GetRouteInfoRequestHeader

__all__ = ["HANDLERS"]

#: The version ordinal of 4.9.4.
STANDARD_JSON_FROM = 401


def route(context: Context[Registry], header: GetRouteInfoRequestHeader, _body: bytes) -> Answer:
    """Where the topic's queues are."""
    found = context.state.route(header.topic or "")
    if found is None:
        remark = f"No topic route info in name server for the topic: {'null' if header.topic is None else header.topic}"
        return Answer(code=ResponseCode.TOPIC_NOT_EXIST, remark=remark)
    standard = context.request.version >= STANDARD_JSON_FROM or bool(header.accept_standard_json_only)
    return Answer(body=encode_route(found, standard))


HANDLERS: HandlerTable = {RequestCode.GET_ROUTEINFO_BY_TOPIC: Route(GetRouteInfoRequestHeader, route)}
