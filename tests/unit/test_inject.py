"""Rules on requests: which one applies, how often, and what cannot be a rule."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from broker_sim.inject import Rule, Rules, request_codes
from broker_sim.verdicts import Corrupt, Delay, Disconnect, Drop, Duplicate, Pass, Reply, Status, Verdict
from rocketmq_aio.codes import SEND, RequestCode, ResponseCode
from rocketmq_aio.errors import ConfigError
from rocketmq_aio.message import SendStatus
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand
from rocketmq_aio.wire.incoming import Request, decode_request


def request(code: int = 310, topic: str = "T") -> Request:
    """A request about a topic."""
    name = "b" if code in (310, 320) else "topic"
    frame = RemotingCommand(code, 7, ext_fields={name: topic}, body=b"x").encode()
    return decode_request(*FrameReader().feed(frame)[0])


def never(verdict: Verdict, error: BaseException) -> None:
    raise AssertionError("no function of a rule fails here") from error


def decide(rules: Rules, code: int = 310, *, server: str = "broker-a", topic: str = "T") -> Verdict | None:
    return rules.decide(server, request(code, topic), never)


def installed(*all_rules: Rule) -> Rules:
    rules = Rules()
    for rule in all_rules:
        rules.add(rule)
    return rules


def test_first_that_does_not_pass_decides() -> None:
    """Rules are asked in order; `Pass` counts and leaves the decision to the next, and what follows is not asked."""
    passing, busy, drop = (Rule(SEND, verdict) for verdict in (Pass(), Reply(2), Drop()))
    rules = installed(passing, busy, drop)
    assert decide(rules) == Reply(2)
    assert (passing.hits, busy.hits, drop.hits) == (1, 1, 0)
    rules.remove(busy)
    rules.remove(busy)
    assert decide(rules) == Drop()
    assert decide(rules, RequestCode.PULL_MESSAGE) is None
    assert (passing.hits, busy.hits, drop.hits) == (2, 1, 1)


def test_filters() -> None:
    """Code, server and topic must all fit; a topic is found under the long and under the short name."""
    rules = installed(Rule(SEND, Drop(), server="broker-a", topic="T"))
    assert [decide(rules, code) for code in (10, 310, 320)] == [Drop()] * 3
    assert decide(rules, 11) is None
    assert decide(rules, server="broker-b") is None
    assert decide(rules, topic="U") is None
    everything = installed(Rule(frozenset(), Drop()))
    assert [decide(everything, code) for code in (11, 34, 105)] == [Drop()] * 3
    assert decide(installed(Rule(frozenset(), Drop(), topic="T")), 105) == Drop()


def test_occurrences() -> None:
    """`after` lets the first ones through, `times` ends it; requests that it is not about count for neither."""
    rule = Rule(SEND, Drop(), after=2, times=2, topic="T")
    rules = installed(rule)
    assert [decide(rules, topic="U") for _ in range(5)] == [None] * 5
    assert [decide(rules) is not None for _ in range(7)] == [False, False, True, True, False, False, False]
    assert rule.hits == 2


def test_probability_is_drawn_from_the_rule_s_own_dice() -> None:
    """The same dice give the same hits; 0 is never and 1 is always."""

    def hits(probability: float, seed: int) -> list[int]:
        rule = Rule(SEND, Drop(), probability=probability)
        rule.rng = random.Random(seed)
        rules = installed(rule)
        return [number for number in range(200) if decide(rules) is not None]

    assert hits(0.25, 5) == hits(0.25, 5) != hits(0.25, 6)
    assert 20 < len(hits(0.25, 5)) < 80
    assert (len(hits(0, 5)), len(hits(1, 5))) == (0, 200)


@pytest.mark.parametrize("kind", [ZeroDivisionError, pytest.fail.Exception, asyncio.CancelledError, SystemExit])
def test_function_that_fails(kind: type[BaseException]) -> None:
    """It is reported, whatever it raises; its rule counts nothing, and the next one is asked."""

    def broken(command: RemotingCommand) -> bool:
        raise kind

    failures: list[tuple[Verdict, type[BaseException]]] = []
    rules = installed(Rule(SEND, Drop(), when=broken), Rule(SEND, Duplicate()))
    decided = rules.decide("broker-a", request(), lambda verdict, error: failures.append((verdict, type(error))))
    assert (decided, failures) == (Duplicate(), [(Drop(), kind)])
    assert rules.installed[0].hits == 0


def test_interruption_is_no_failure() -> None:
    """Ctrl-C ends the program also while a function runs."""

    def interrupted(command: RemotingCommand) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decide(installed(Rule(SEND, Drop(), when=interrupted)))


def test_function_of_the_request() -> None:
    """`when` sees the whole request, and anything that is true is a yes."""
    rules = installed(
        Rule(SEND, Drop(), when=lambda command: command.body == b"y"),
        Rule(SEND, Duplicate(), when=lambda command: command.body),
    )
    assert decide(rules) == Duplicate()


def test_function_is_not_asked_once_the_times_are_spent() -> None:
    """A rule that can apply no more costs nothing more than a look."""
    asked: list[RemotingCommand] = []
    rules = installed(Rule(SEND, Drop(), times=2, when=lambda command: not asked.append(command)))
    assert [decide(rules) for _ in range(5)] == [Drop(), Drop(), None, None, None]
    assert len(asked) == 2


def test_function_may_remove_its_rule() -> None:
    """Rules may change while they are asked."""

    def once(command: RemotingCommand) -> bool:
        rules.remove(rule)
        return True

    rule = Rule(SEND, Drop(), when=once)
    rules = installed(rule, Rule(SEND, Duplicate()))
    assert [decide(rules), decide(rules)] == [Drop(), Duplicate()]


def test_request_that_cannot_be_read_is_nobody_s() -> None:
    """A rule that has to look into unreadable fields does not apply, and that is no failure of its function."""
    broken = decode_request(0, b'{"code":310,"extFields":{"b":"\xff"}}', b"")
    rules = installed(Rule(SEND, Drop(), topic="T"), Rule(SEND, Drop(), when=lambda command: True))
    assert rules.decide("broker-a", broken, never) is None


def test_request_codes() -> None:
    """One code, several, or all."""
    assert request_codes(310) == request_codes(RequestCode.SEND_MESSAGE_V2) == frozenset({310})
    assert request_codes(SEND) == request_codes([10, 310, 320]) == SEND
    assert request_codes(None) == frozenset()


@pytest.mark.parametrize(
    "requests",
    ["310", b"ab", True, 3.5, [], ["310"], [True], {310: 1}, -5, 1 << 31, ResponseCode.SYSTEM_BUSY,
     SendStatus.SEND_OK, [310, SendStatus.SEND_OK], object()],
    ids=repr,
)  # fmt: skip
def test_what_is_no_request_code(requests: Any) -> None:
    """The value is named."""
    with pytest.raises(ConfigError, match=r"Cluster\.inject: requests"):
        request_codes(requests)


class OwnVerdict(Drop, frozen=True):
    """Nobody knows how to carry it out."""


async def a_coroutine(_: object) -> bytes:
    raise AssertionError("nobody would await it")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"verdict": Drop}, "is no verdict"),
        ({"verdict": None}, "is no verdict"),
        ({"verdict": Verdict()}, "is no verdict"),
        ({"verdict": OwnVerdict()}, "is no verdict"),
        ({"topic": 5}, "topic must be"),
        ({"topic": ""}, "topic must be"),
        ({"times": 0}, "times must be a whole number from 1"),
        ({"times": True}, "times must be"),
        ({"after": -1}, "after must be a whole number from 0"),
        ({"probability": 1.1}, "probability must be a number from 0 to 1"),
        ({"probability": float("nan")}, "probability must be"),
        ({"when": "yes"}, "when must be a plain function"),
        ({"when": a_coroutine}, "when must be a plain function"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_a_rule(options: dict[str, Any], words: str) -> None:
    """Wrong arguments are refused, by name and value."""
    with pytest.raises(ConfigError, match=words):
        Rule(SEND, **{"verdict": Drop(), **options})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Reply, ("2",)), (Reply, (2, 5)), (Reply, (2, None, {"a": 1})),
        (Reply, (2, None, None, b"", "later")), (Reply, (2, None, None, "text")),
        (Reply, (1 << 31,)), (Status, (10,)), (Delay, (-1,)), (Delay, (float("inf"),)), (Delay, (float("nan"),)),
        (Delay, (True,)), (Delay, (86_401,)), (Delay, (1, "")), (Drop, ("during",)), (Disconnect, (None,)),
        (Corrupt, (b"x",)), (Corrupt, (a_coroutine,)), (Reply, (2, "\ud800")), (Reply, (2, None, {"\ud800": ""})),
        (Reply, (2, None, {"n" * 40_000: ""})), (Reply, (2, "x" * (1 << 24))),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_what_cannot_be_a_verdict(kind: Any, values: tuple[Any, ...]) -> None:
    """Wrong values are refused when the verdict is made, and not when it is carried out."""
    with pytest.raises(ConfigError, match=kind.__name__):
        kind(*values)


def test_verdicts_are_values() -> None:
    """They are compared by value, cannot be changed, and may be shared by rules."""
    assert Reply(ResponseCode.SYSTEM_BUSY, "busy") == Reply(2, remark="busy")
    assert Status(SendStatus.FLUSH_DISK_TIMEOUT) != Status(SendStatus.FLUSH_SLAVE_TIMEOUT)
    fields = {"a": "b"}
    reply = Reply(2, fields=fields)
    fields["a"] = "c"
    assert reply.fields == {"a": "b"}
    with pytest.raises(AttributeError):
        Delay(1).seconds = 2  # type: ignore[misc]
