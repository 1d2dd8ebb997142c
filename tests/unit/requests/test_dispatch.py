"""The tables of handlers."""

from __future__ import annotations

import pytest

from broker_sim.requests import offsets, send
from broker_sim.requests.dispatch import BROKER_HANDLERS, NAME_SERVER_HANDLERS, merge
from rocketmq_aio.wire.headers import REQUEST_HEADERS


def test_two_handlers_for_a_code_are_refused() -> None:
    """A second handler would silently take the place of the first."""
    with pytest.raises(ValueError, match="Request code 10 has two handlers"):
        merge(send.HANDLERS, offsets.HANDLERS, send.HANDLERS)


def test_headers_are_those_of_the_codes() -> None:
    """Each code is decoded as the class that the wire knows for it."""
    tables = BROKER_HANDLERS | NAME_SERVER_HANDLERS
    assert len(tables) == len(BROKER_HANDLERS) + len(NAME_SERVER_HANDLERS)
    assert {code: route.header for code, route in tables.items()} == {code: REQUEST_HEADERS[code] for code in tables}


@pytest.mark.parametrize(
    ("table", "codes"),
    [
        (BROKER_HANDLERS, {10, 310, 320, 11, 361, 29, 30, 31, 32, 33, 34, 35, 17}),
        (NAME_SERVER_HANDLERS, {103, 104, 105, 322}),
    ],
    ids=["broker", "name-server"],
)
def test_codes(table: dict[int, object], codes: set[int]) -> None:
    """What is served; a code that gets lost in a merge is noticed."""
    assert set(table) == codes
