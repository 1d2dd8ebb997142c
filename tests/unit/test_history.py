"""The history of a cluster: bounded, while counts and hash go on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from broker_sim.history import Exchange, History
from rocketmq_aio.codes import FLAG_RESPONSE
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand
from rocketmq_aio.wire.incoming import decode_request

REPLY = RemotingCommand(0, 7, FLAG_RESPONSE, body=b"found").encode()


@dataclass(frozen=True)
class Facts:
    """What an exchange is made of; each of them counts in the hash."""

    code: int = 310
    opaque: int = 7
    body: bytes = b"hello"
    peer: int = 1
    received_at: float = 0.25
    replied_at: float | None = 0.25
    reply: bytes = REPLY

    def exchange(self) -> Exchange:
        frame = RemotingCommand(self.code, self.opaque, ext_fields={"a": "group"}, body=self.body).encode()
        request = decode_request(*FrameReader().feed(frame)[0])
        return Exchange("broker-a", self.peer, self.code, self.received_at, self.replied_at, request, self.reply)


def digest(*facts: Facts) -> str:
    history = History(0)
    for one in facts:
        history.record(one.exchange())
    return history.digest()


def test_exchange_is_decoded_when_looked_at() -> None:
    """Request and reply come out as whole commands; no reply is None."""
    exchange = Facts().exchange()
    assert (exchange.request.code, exchange.request.opaque, exchange.request.body) == (310, 7, b"hello")
    assert exchange.request.ext_fields == {"a": "group"}
    assert exchange.reply is not None and exchange.reply.body == b"found"
    assert Facts(replied_at=None, reply=b"").exchange().reply is None


def test_oldest_exchanges_are_forgotten_first() -> None:
    """At most so many are kept, in their order; counts and `seen` include the forgotten."""
    history = History(3)
    for code in range(100):
        history.record(Facts(code=code).exchange())
    assert [exchange.code for exchange in history.exchanges()] == [97, 98, 99]
    assert history.seen == 100
    assert history.counts() == dict.fromkeys(range(100), 1)


def test_bytes_are_bounded_too() -> None:
    """Large bodies push older exchanges out before the count is reached, each at once."""
    history = History(1000, bytes_max=300_000)
    for opaque in range(5):
        history.record(Facts(opaque=opaque, body=bytes(100_000)).exchange())
    assert [exchange.request.opaque for exchange in history.exchanges()] == [3, 4]


def test_large_answers_are_dealt_with_at_once() -> None:
    """What waits to be dealt with is bounded as well: neither large bodies nor large answers gather."""
    history = History(0)
    for _ in range(3):
        history.record(Facts(reply=bytes(100_000)).exchange())
        assert history._new == []


def test_nothing_is_kept_without_room() -> None:
    """With a maximum of 0 there is nothing to look back on, and the counts still count."""
    history = History(0)
    history.record(Facts().exchange())
    assert (history.exchanges(), history.seen, history.counts()) == ([], 1, {310: 1})


def test_exchanges_of_certain_codes() -> None:
    """Codes select; none selects all."""
    history = History(10)
    for code in (10, 11, 10, 34):
        history.record(Facts(code=code).exchange())
    assert [exchange.code for exchange in history.exchanges((10, 34))] == [10, 10, 34]
    assert len(history.exchanges()) == 4


@pytest.mark.parametrize(
    "other",
    [
        {"code": 10}, {"opaque": 8}, {"body": b"hellO"}, {"peer": 2}, {"received_at": 0.250001},
        {"replied_at": 0.5}, {"reply": REPLY[:-1] + b"!"}, {"replied_at": None, "reply": b""},
    ],
    ids=lambda other: "-".join(other),
)  # fmt: skip
def test_digest_depends_on_every_fact(other: dict[str, object]) -> None:
    """One changed fact changes the digest; equal exchanges give equal digests."""
    assert digest(Facts()) == digest(Facts())
    assert digest(Facts()) != digest(replace(Facts(), **other))  # type: ignore[arg-type]


def test_digest_does_not_depend_on_when_it_is_asked_for() -> None:
    """Looking in between changes nothing, and order matters."""
    asked = History(0)
    for opaque in range(200):
        asked.record(Facts(opaque=opaque).exchange())
        if opaque % 7 == 0:
            asked.digest()
    facts = [Facts(opaque=opaque) for opaque in range(200)]
    assert asked.digest() == digest(*facts)
    assert asked.digest() != digest(*reversed(facts))
