"""What can go wrong, as types. Every error says what happened, where, and what to do about it.

The tree is a promise to users: `except RocketMQError` catches all of it, `retryable` and `maybe_stored` answer the two
questions that a caller has, `hint` says what to do. A class keeps its data in attributes and gives one text to its
base, so that every error can be pickled and copied. The messages name values and limits, never bodies or keys.

Source: the split into client, broker and remoting errors follows `MQClientException`, `MQBrokerException` and the
`RemotingException` family of Apache's Java client (5.3.3).
Differs: Java reports a send that timed out or lost its connection without saying whether it may have been stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from rocketmq_aio.message import SendAttempt, SendResult

__all__ = [
    "AuthenticationError", "BrokerError", "ClosedError", "ConfigError", "ConnectError", "ConnectionLostError",
    "ForkedError", "LocalProtocolError", "MessageError", "MessageIllegalError", "NameServersUnavailableError",
    "NoPermissionError", "NoRouteError", "NoWritableQueueError", "NotDurableError", "NotStartedError",
    "RemoteProtocolError", "RequestTimeoutError", "RocketMQError", "RouteError", "SendConnectionError", "SendError",
    "SendRejectedError", "SendTimeoutError", "ServiceNotAvailableError", "StateError", "SystemBusyError",
    "TopicNotExistError", "TransportError", "WrongLoopError", "broker_error", "quote_remote",
]


class RocketMQError(Exception):
    """The root of all errors of this library.

    Attributes:
        retryable: trying the same again later, or elsewhere, can help.
        maybe_stored: a message may be stored although no acknowledgement came.
        hint: what to do about it, or an empty string.
    """

    retryable: bool = False
    maybe_stored: bool = False

    def __init__(self, text: str, *, hint: str = "") -> None:
        super().__init__(f"{text} {hint}" if hint else text)
        self.text = text
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the class with the joined text alone; and OSError's own __reduce__ is different again.
        return _restore, (type(self), self.args, dict(self.__dict__))

    def again(self) -> RocketMQError:
        """A new error equal to this one, to be raised `from` it: raising one object twice mixes its tracebacks."""
        copy = _restore(type(self), self.args, dict(self.__dict__))
        copy.__cause__ = self
        return copy


def _restore(kind: type[RocketMQError], args: tuple[Any, ...], attributes: dict[str, Any]) -> RocketMQError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ConfigError(RocketMQError, ValueError):
    """A configuration value is missing, out of range or of the wrong form."""


class MessageError(RocketMQError, ValueError):
    """A message cannot be sent as it is."""


class StateError(RocketMQError, RuntimeError):
    """The object cannot do this in the state that it is in."""


class NotStartedError(StateError):
    """Used before `start()`."""


class ClosedError(StateError):
    """Used after `aclose()` or `abort()`, or while closing."""


class ForkedError(StateError):
    """Used in a child process that inherited it by a fork."""


class WrongLoopError(StateError):
    """Used from another event loop, or another thread, than the one that started it."""


class RouteError(RocketMQError):
    """There is no way to a topic."""

    retryable = True

    def __init__(self, text: str, *, topic: str = "", hint: str = "") -> None:
        super().__init__(text, hint=hint)
        self.topic = topic


class NoRouteError(RouteError):
    """The name servers know no route to the topic (Java: "No route info of this topic")."""


class NoWritableQueueError(RouteError):
    """The topic has a route, but none of its queues takes messages."""


class NameServersUnavailableError(RouteError):
    """No name server gave a usable answer.

    Attributes:
        answers: name-server address → what came of asking it.
    """

    def __init__(self, text: str, *, topic: str = "", answers: Mapping[str, str] | None = None, hint: str = "") -> None:
        super().__init__(text, topic=topic, hint=hint)
        self.answers = dict(answers or {})


class TransportError(RocketMQError, ConnectionError):
    """A connection could not be made, was lost, or broke the protocol.

    Attributes:
        address: `host:port` of the peer.
    """

    retryable = True

    def __init__(self, text: str, *, address: str = "", hint: str = "", maybe_stored: bool = False) -> None:
        super().__init__(text, hint=hint)
        self.address = address
        self.maybe_stored = maybe_stored


class ConnectError(TransportError):
    """No connection could be made; nothing was sent."""


class ConnectionLostError(TransportError):
    """The connection broke. `maybe_stored` is true if the request had been written by then."""


class RemoteProtocolError(TransportError):
    """The peer sent bytes that are not RocketMQ's remoting protocol; the connection was closed."""


class LocalProtocolError(RocketMQError):
    """Bytes or values that the wire format cannot express.

    The codec raises it without knowing where the bytes came from; the connection, which knows, turns what came from the
    network into a `RemoteProtocolError`.
    """


class RequestTimeoutError(RocketMQError, TimeoutError):
    """No answer came by the deadline. If the request changes something, it may have been carried out."""

    retryable = True

    def __init__(self, text: str, *, address: str = "", hint: str = "", maybe_stored: bool = False) -> None:
        super().__init__(text, hint=hint)
        self.address = address
        self.maybe_stored = maybe_stored


class BrokerError(RocketMQError):
    """A broker or name server answered with an error code.

    Attributes:
        code: the response code.
        remark: the server's own words, possibly empty.
        address: `host:port` of the server.
    """

    default_hint: ClassVar[str] = ""

    def __init__(self, text: str, *, code: int, remark: str = "", address: str = "", hint: str = "") -> None:
        super().__init__(text, hint=hint)
        self.code = code
        self.remark = remark
        self.address = address


class SystemBusyError(BrokerError):
    """SYSTEM_BUSY (2) or FLOW_CONTROL (215): the broker is overloaded."""

    retryable = True
    default_hint = "The broker is overloaded: send more slowly, or later."


class MessageIllegalError(BrokerError):
    """MESSAGE_ILLEGAL (13): the broker refuses this message."""

    default_hint = "Body and properties must be within the broker's limits (4 MiB and 32 KiB by default)."


class ServiceNotAvailableError(BrokerError):
    """SERVICE_NOT_AVAILABLE (14): the broker's store takes no messages, for example because its disk is full."""

    retryable = True
    default_hint = "The broker's store takes no messages: look at its disk and its log."


class NoPermissionError(BrokerError):
    """NO_PERMISSION (16): the topic, group or broker does not allow this."""

    retryable = True
    default_hint = "Look at the topic's permission and at the broker's."


class AuthenticationError(NoPermissionError):
    """NO_PERMISSION (16) because access control refused the credentials."""

    retryable = False


class TopicNotExistError(BrokerError):
    """TOPIC_NOT_EXIST (17): the broker does not have the topic and does not create it."""

    retryable = True
    default_hint = "Create the topic, or let the broker create it (autoCreateTopicEnable)."


_BROKER_ERRORS: dict[int, type[BrokerError]] = {
    2: SystemBusyError,
    13: MessageIllegalError,
    14: ServiceNotAvailableError,
    16: NoPermissionError,
    17: TopicNotExistError,
    215: SystemBusyError,
}

#: Codes without a class of their own on which another attempt can help (Java's default set of retried codes).
_RETRYABLE_CODES = frozenset((1, 204, 205, 1500))


def broker_error(code: int, remark: str | None, *, address: str, name: str, request: str) -> BrokerError:
    """The typed error for a response code.

    Args:
        code: the response code, not 0.
        remark: the server's words, if any.
        address: `host:port` of the server.
        name: the code's name, such as ``SYSTEM_BUSY``, or an empty string.
        request: what was asked, such as ``SEND_MESSAGE_V2``.
    """
    kind = _BROKER_ERRORS.get(code, BrokerError)
    words = f": {quote_remote(remark).rstrip('.')}." if remark else "."
    error = kind(
        f"{quote_remote(address)} answered {request} with {f'{name} ({code})' if name else f'code {code}'}{words}",
        code=code, remark=remark or "", address=address, hint=kind.default_hint,
    )
    if code in _RETRYABLE_CODES:
        error.retryable = True
    return error


def quote_remote(text: str, characters_max: int = 400) -> str:
    """Text of a stranger, fit for error texts and logs: without control characters, and not too long."""
    shown = text[:characters_max]
    if not shown.isprintable():
        shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in shown)
    return shown if len(text) <= characters_max else f"{shown}… ({len(text):,} characters)"


class NotDurableError(RocketMQError):
    """The message is stored, but not flushed or replicated as the broker was configured to.

    Attributes:
        result: the `SendResult`; its `status` says what is missing.
    """

    maybe_stored = True

    def __init__(self, text: str, *, result: SendResult, hint: str = "") -> None:
        super().__init__(text, hint=hint)
        self.result = result


class SendError(RocketMQError):
    """A message was not acknowledged.

    Attributes:
        message_id: the message's unique id, the same in all attempts.
        topic: the message's topic.
        attempts: every attempt, in order; empty if none was made.
        maybe_stored: true if it is true of any attempt.
        code: the last attempt's response code, or None.
        remark: the last attempt's remark, or an empty string.
    """

    def __init__(
        self, text: str, *, topic: str = "", message_id: str = "", attempts: Sequence[SendAttempt] = (), hint: str = ""
    ) -> None:
        super().__init__(text, hint=hint)
        self.topic = topic
        self.message_id = message_id
        self.attempts = tuple(attempts)
        errors = [attempt.error for attempt in self.attempts if attempt.error is not None]
        self.maybe_stored = any(error.maybe_stored for error in errors)
        self.retryable = errors[-1].retryable if errors else True
        last = errors[-1] if errors else None
        self.code: int | None = last.code if isinstance(last, BrokerError) else None
        self.remark: str = last.remark if isinstance(last, BrokerError) else ""


class SendTimeoutError(SendError, TimeoutError):
    """The deadline passed, or the last attempt ended without an answer. Without an attempt, it says where it waited."""


class SendConnectionError(SendError, ConnectionError):
    """The last attempt ended in a `TransportError`."""


class SendRejectedError(SendError):
    """The last attempt was answered with an error; `__cause__` is the typed one."""
