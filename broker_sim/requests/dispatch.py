"""Which function deals with which request code: the tables of a broker and of a name server.

Source: `BrokerController.java` (`registerProcessor`), `NamesrvController.java` (5.3.3).
"""

from __future__ import annotations

from broker_sim.requests import clients, offsets, pull, registration, routes, send, topics
from broker_sim.requests.answer import HandlerTable

__all__ = ["BROKER_HANDLERS", "NAME_SERVER_HANDLERS", "merge"]


def merge(*tables: HandlerTable) -> HandlerTable:
    """One table of several.

    Raises:
        ValueError: two of them have the same code.
    """
    merged: HandlerTable = {}
    for table in tables:
        for code, route in table.items():
            if code in merged:
                raise ValueError(f"Request code {code} has two handlers: {merged[code].handler} and {route.handler}.")
            merged[int(code)] = route
    return merged


BROKER_HANDLERS = merge(send.HANDLERS, pull.HANDLERS, offsets.HANDLERS, clients.HANDLERS, topics.HANDLERS)
NAME_SERVER_HANDLERS = merge(routes.HANDLERS, registration.HANDLERS)
