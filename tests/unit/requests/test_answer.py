"""What handlers are given: the peer as records keep it."""

from __future__ import annotations

from typing import Any

import pytest

from broker_sim.requests.answer import Answer, Context, ReplyForm
from rocketmq_aio.wire.headers import GetMaxOffsetResponseHeader


class FakeConnection:
    def __init__(self, host: str) -> None:
        self.peer = (host, 5000)


@pytest.mark.parametrize(
    ("host", "address", "text"),
    [
        ("127.0.0.1", b"\x7f\0\0\1", "127.0.0.1:5000"),
        ("::1", bytes(15) + b"\1", "[::1]:5000"),
        ("fe80::1%eth0", b"\xfe\x80" + bytes(13) + b"\1", "[fe80::1]:5000"),
        ("::ffff:10.0.0.1", b"\x0a\0\0\1", "10.0.0.1:5000"),
        ("client", bytes(4), "0.0.0.0:5000"),
    ],
)
def test_peer(host: str, address: bytes, text: str) -> None:
    """IPv4 addresses also when a socket of both families shows them; no scope; a name has no address."""
    context: Context[Any] = Context()
    context.connection = FakeConnection(host)  # type: ignore[assignment]
    assert context.peer == (address, 5000)
    assert context.peer_text == text


def test_answers_without_and_with_empty_fields_differ() -> None:
    """As with Java, no fields and no members are two things on the wire."""
    assert b'"extFields"' not in Answer().frame(1, ReplyForm())
    assert b'"extFields":{}' in Answer(fields={}).frame(1, ReplyForm())
    assert b'"extFields":{"offset":"5"}' in Answer.of(GetMaxOffsetResponseHeader(5)).frame(1, ReplyForm())
