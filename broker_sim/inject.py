"""Injections: rules on requests that give verdicts.

A rule says which requests it is about (by code, server, topic, a function) and how often it applies. Rules are asked in
the order in which they were installed; the first whose verdict is not `Pass` decides what becomes of the request.

This file decides and does nothing.

Source: none in Java. The counting of occurrences is that of librdkafka's mock cluster and of kfake's `ControlKey`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import msgspec

from broker_sim.verdicts import VERDICTS, Pass, Verdict, check_int
from rocketmq_aio.codes import RequestCode
from rocketmq_aio.errors import ConfigError, LocalProtocolError

if TYPE_CHECKING:
    from rocketmq_aio.wire.frame import RemotingCommand
    from rocketmq_aio.wire.incoming import Request

__all__ = ["Rule", "Rules", "request_codes"]

_CODE_MAX = 2**31 - 1
#: Requests whose fields have one-letter names.
_SHORT_NAMES = (
    RequestCode.SEND_MESSAGE_V2, RequestCode.SEND_BATCH_MESSAGE, RequestCode.SEND_REPLY_MESSAGE_V2,
)


class Rule:
    """One injection, as the servers see it.

    Args:
        codes: request codes that it is about; empty for all.
        verdict: what it says.
        server: the name of one server; None for all.
        topic: requests that name this topic; None for all.
        times: how often it applies, from 1; None for always.
        after: so many requests that it is about are let through first, from 0.
        probability: how likely it applies, 0 to 1; None for always.
        when: given the decoded request, it says whether the rule is about it.

    Attributes:
        hits: how often it has applied.
        rng: dice for `probability`; to be set before the first request.

    Raises:
        ConfigError: an argument cannot be used.
    """

    def __init__(
        self,
        codes: frozenset[int],
        verdict: Verdict,
        *,
        server: str | None = None,
        topic: str | None = None,
        times: int | None = None,
        after: int = 0,
        probability: float | None = None,
        when: Callable[[RemotingCommand], object] | None = None,
    ) -> None:
        if type(verdict) not in VERDICTS:
            raise ConfigError(
                f"Cluster.inject: {verdict!r} is no verdict.",
                hint="There are Pass, Reply, Status, Delay, Drop, Disconnect, Duplicate and Corrupt; Drop() is one.",
            )
        if topic is not None and (not isinstance(topic, str) or not topic):
            raise ConfigError(f"Cluster.inject: topic must be a topic's name, or None for all, not {topic!r}.")
        if times is not None:
            check_int("Cluster.inject", "times", times, 1, _CODE_MAX)
        check_int("Cluster.inject", "after", after, 0, _CODE_MAX)
        if probability is not None and (
            isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1
        ):
            raise ConfigError(f"Cluster.inject: probability must be a number from 0 to 1 or None, not {probability!r}.")
        if when is not None and (not callable(when) or iscoroutinefunction(when)):
            raise ConfigError(f"Cluster.inject: when must be a plain function of a request, or None, not {when!r}.")
        self.codes = codes
        self.verdict = verdict
        self.server = server
        self.topic = topic
        self.times = times
        self.after = after
        self.probability = probability
        self.when = when
        self.hits = 0
        self.rng: Any = None
        self._seen = 0

    def applies(self, server: str, request: Request) -> bool:
        """Whether it applies to a request that a server got; if so, that is counted.

        Raises:
            BaseException: whatever `when` raises. Nothing has been counted then.
        """
        if self.codes and request.code not in self.codes:
            return False
        if self.server is not None and self.server != server:
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        try:
            if self.topic is not None and self.topic != _topic_of(request):
                return False
            command = None if self.when is None else request.command()
        except LocalProtocolError:  # it cannot be read: its connection is about to be closed
            return False
        if self.when is not None and command is not None and not self.when(command):
            return False
        self._seen += 1
        if self._seen <= self.after:
            return False
        if self.probability is not None and self.rng.random() >= self.probability:
            return False
        self.hits += 1
        return True


class Rules:
    """The rules of one cluster.

    Attributes:
        installed: the rules in the order in which they are asked. Empty, it costs a server one look. It is never
            another list: sessions keep it.
    """

    def __init__(self) -> None:
        self.installed: list[Rule] = []

    def add(self, rule: Rule) -> None:
        """Install a rule behind the others."""
        self.installed.append(rule)

    def remove(self, rule: Rule) -> None:
        """Take a rule out, if it is still there."""
        if rule in self.installed:
            self.installed.remove(rule)

    def decide(self, server: str, request: Request, failed: Callable[[Verdict, BaseException], None]) -> Verdict | None:
        """What becomes of a request; None if no rule says anything.

        Args:
            server: the name of the server that got it.
            request: the request.
            failed: told the verdict of a rule whose function raised something, and what. Such a rule does not apply.
        """
        for rule in tuple(self.installed):  # the user's function may change the rules
            try:
                applies = rule.applies(server, request)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # also pytest.fail, which is no Exception
                failed(rule.verdict, error)
                continue
            if applies and type(rule.verdict) is not Pass:
                return rule.verdict
        return None


class _Topic(msgspec.Struct):
    """The topic in the fields of a request, by its long and its short name."""

    long: str | None = msgspec.field(default=None, name="topic")
    short: str | None = msgspec.field(default=None, name="b")


def _topic_of(request: Request) -> str | None:
    fields = request.fields(_Topic)
    return fields.short if request.code in _SHORT_NAMES else fields.long


def request_codes(requests: object) -> frozenset[int]:
    """Request codes, from one, several, or None for all (which is the empty set).

    Raises:
        ConfigError: there is none, or one cannot be a code.
    """
    if requests is None:
        return frozenset()
    several: Collection[Any] = (requests,)
    if isinstance(requests, Collection) and not isinstance(requests, str | bytes | bytearray | Mapping):
        several = requests
    for code in several:
        foreign = isinstance(code, bool) or (isinstance(code, Enum) and not isinstance(code, RequestCode))
        if foreign or not isinstance(code, int) or not 0 <= code <= _CODE_MAX:
            raise ConfigError(
                f"Cluster.inject: requests must be request codes, not {requests!r}.",
                hint="For example SEND, RequestCode.PULL_MESSAGE, a list of codes, or None for all requests.",
            )
    if not several:
        raise ConfigError("Cluster.inject: requests names no request code.", hint="None stands for all requests.")
    return frozenset(int(code) for code in several)
