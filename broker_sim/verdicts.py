"""Verdicts: what an injection makes of a request. Values, checked when they are made.

*Before* and *after* are sides of the handler: a request that is dropped before it has no effect; one that is dropped
after it was, for example, stored, and nobody is told, which is the lost acknowledgement. What a verdict means in bytes
and time is in `session.py`, and when it applies in `inject.py`.

Source: none in Java.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from typing import Literal

import msgspec

from rocketmq_aio.codes import SerializeType
from rocketmq_aio.errors import ConfigError, LocalProtocolError
from rocketmq_aio.message import SendStatus
from rocketmq_aio.wire.frame import RemotingCommand

__all__ = [
    "VERDICTS", "Corrupt", "Delay", "Disconnect", "Drop", "Duplicate", "Pass", "Reply", "Status", "Verdict",
    "check_int",
]

Phase = Literal["before", "after"]

#: A day. Longer delays are mistakes: nobody waits so long.
DELAY_MAX = 86_400.0
_CODE_MAX = 2**31 - 1


def check_int(owner: str, name: str, value: object, least: int, most: int) -> None:
    """Raise a `ConfigError` unless it is a whole number in these bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{owner}: {name} must be a whole number from {least:,} to {most:,}, not {value!r}.")


def _check_phase(owner: str, phase: object) -> None:
    if phase not in ("before", "after"):
        raise ConfigError(f"{owner}: phase must be 'before' or 'after' (the handler), not {phase!r}.")


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of a request. The base of the verdicts."""


class Pass(Verdict, frozen=True):
    """Nothing: the next rule is asked. It only counts."""


class Reply(Verdict, frozen=True):
    """An answer of the rule's own, in the place of the server's.

    Attributes:
        code: the answer's code, usually a `ResponseCode`.
        remark: its text.
        fields: its ext fields, text → text.
        body: its body, for example another route.
        phase: ``before``: the request has no effect. ``after``: it has, and the server says something else.

    Raises:
        ConfigError: a value cannot be used.
    """

    code: int
    remark: str | None = None
    fields: Mapping[str, str] | None = None
    body: bytes = b""
    phase: Phase = "before"

    def __post_init__(self) -> None:
        """Check everything."""
        check_int("Reply", "code", self.code, -_CODE_MAX - 1, _CODE_MAX)
        if self.remark is not None and not isinstance(self.remark, str):
            raise ConfigError(f"Reply: remark must be a str or None, not {self.remark!r}.")
        if self.fields is not None and not (
            isinstance(self.fields, Mapping)
            and all(isinstance(text, str) for pair in self.fields.items() for text in pair)
        ):
            raise ConfigError(f"Reply: fields must be a mapping from str to str, or None, not {self.fields!r}.")
        if not isinstance(self.body, bytes):
            raise ConfigError(f"Reply: body must be bytes, not {self.body!r}.")
        _check_phase("Reply", self.phase)
        fields = None if self.fields is None else dict(self.fields)
        for serialize_type in SerializeType:
            try:
                RemotingCommand(
                    self.code, remark=self.remark, ext_fields=fields, body=self.body, serialize_type=serialize_type
                ).encode()
            except LocalProtocolError as error:
                raise ConfigError(f"Reply: it cannot be sent: {error}") from error
        msgspec.structs.force_setattr(self, "fields", fields)


class Status(Verdict, frozen=True):
    """A send that is stored is acknowledged with this status. Other requests, and refused sends, stay as they are.

    Attributes:
        status: the `SendStatus`.

    Raises:
        ConfigError: it is none.
    """

    status: SendStatus

    def __post_init__(self) -> None:
        """Check the status."""
        if not isinstance(self.status, SendStatus):
            raise ConfigError(f"Status: it must be a SendStatus, not {self.status!r}.")


class Delay(Verdict, frozen=True):
    """The answer comes later. Requests behind it are not held up, as they are not by a real broker's threads.

    Attributes:
        seconds: 0 to 86,400.
        phase: ``before``: it takes effect later, too, even if the client has gone away meanwhile. ``after``: it takes
            effect at once, and only the answer is late.

    Raises:
        ConfigError: a value cannot be used.
    """

    seconds: float
    phase: Phase = "before"

    def __post_init__(self) -> None:
        """Check both."""
        seconds = self.seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= DELAY_MAX:
            raise ConfigError(f"Delay: seconds must be a number from 0 to {DELAY_MAX:,.0f}, not {seconds!r}.")
        _check_phase("Delay", self.phase)


class _Unanswered(Verdict, frozen=True):
    phase: Phase = "before"

    def __post_init__(self) -> None:
        """Check the phase."""
        _check_phase(type(self).__name__, self.phase)


class Drop(_Unanswered, frozen=True):
    """No answer.

    Attributes:
        phase: ``before``: the request has no effect. ``after``: it has, and nobody is told.

    Raises:
        ConfigError: it is no phase.
    """


class Disconnect(_Unanswered, frozen=True):
    """No answer; the connection breaks instead.

    Attributes:
        phase: ``before``: the request has no effect. ``after``: it has, and nobody is told.

    Raises:
        ConfigError: it is no phase.
    """


class Duplicate(Verdict, frozen=True):
    """The request takes effect twice, and each time is answered; as if the client had repeated it by mistake."""


class Corrupt(Verdict, frozen=True):
    """The request takes effect, and the bytes of the answer are changed.

    Attributes:
        change: given the whole frame, it returns the bytes that are written instead. It runs in the cluster's thread.
            If it fails, that is logged, and the answer stays as it was.

    Raises:
        ConfigError: it cannot be called.
    """

    change: Callable[[bytes], bytes]

    def __post_init__(self) -> None:
        """Check that it can be called."""
        if not callable(self.change) or iscoroutinefunction(self.change):
            raise ConfigError(f"Corrupt: it takes a plain function from bytes to bytes, not {self.change!r}.")


#: All of them. There are no others: nobody would know how to carry them out.
VERDICTS = (Pass, Reply, Status, Delay, Drop, Disconnect, Duplicate, Corrupt)
