"""The tree of errors: what catches what, what each one says of retrying and of stored messages, pickling, copying."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any

import pytest

from rocketmq_aio import errors
from rocketmq_aio.errors import (
    BrokerError,
    LocalProtocolError,
    RocketMQError,
    SendError,
    SendTimeoutError,
    broker_error,
)
from rocketmq_aio.message import MessageQueue, SendAttempt, SendResult, SendStatus

QUEUE = MessageQueue("Orders", "broker-a", 3)
RESULT = SendResult(SendStatus.FLUSH_DISK_TIMEOUT, "ID", "OFFSET", QUEUE, 1, "", "", "", 1, 0.1)
CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RocketMQError)]

BUILT_IN = {
    "ConfigError": ValueError,
    "MessageError": ValueError,
    "StateError": RuntimeError,
    "TransportError": ConnectionError,
    "RequestTimeoutError": TimeoutError,
    "SendTimeoutError": TimeoutError,
    "SendConnectionError": ConnectionError,
}
PARENTS = {
    "NotStartedError": "StateError", "ClosedError": "StateError", "ForkedError": "StateError",
    "WrongLoopError": "StateError", "NoRouteError": "RouteError", "NoWritableQueueError": "RouteError",
    "NameServersUnavailableError": "RouteError", "ConnectError": "TransportError",
    "ConnectionLostError": "TransportError", "RemoteProtocolError": "TransportError",
    "SystemBusyError": "BrokerError", "MessageIllegalError": "BrokerError", "ServiceNotAvailableError": "BrokerError",
    "NoPermissionError": "BrokerError", "AuthenticationError": "NoPermissionError", "TopicNotExistError": "BrokerError",
    "SendTimeoutError": "SendError", "SendConnectionError": "SendError", "SendRejectedError": "SendError",
}  # fmt: skip
RETRYABLE = {
    "RouteError", "NoRouteError", "NoWritableQueueError", "NameServersUnavailableError", "TransportError",
    "ConnectError", "ConnectionLostError", "RemoteProtocolError", "RequestTimeoutError", "SystemBusyError",
    "ServiceNotAvailableError", "NoPermissionError", "TopicNotExistError",
}  # fmt: skip


def attempt(error: RocketMQError | None) -> SendAttempt:
    return SendAttempt(QUEUE, "127.0.0.1:10911", 0.0, 0.5, error)


def an_error(kind: type[RocketMQError]) -> RocketMQError:
    """An error of the class with something in every attribute."""
    arguments: dict[str, Any] = {"hint": "Do this."}
    if issubclass(kind, errors.RouteError):
        arguments["topic"] = "Orders"
    if issubclass(kind, errors.NameServersUnavailableError):
        arguments["answers"] = {"127.0.0.1:9876": "refused"}
    if issubclass(kind, errors.TransportError | errors.RequestTimeoutError):
        arguments |= {"address": "127.0.0.1:10911", "maybe_stored": True}
    if issubclass(kind, BrokerError):
        arguments |= {"code": 205, "remark": "words", "address": "127.0.0.1:10911"}
    if issubclass(kind, errors.NotDurableError):
        arguments["result"] = RESULT
    if issubclass(kind, SendError):
        last = errors.SystemBusyError("Busy.", code=2, remark="words")
        arguments |= {"topic": "Orders", "message_id": "ID", "attempts": [attempt(last)]}
    return kind("It failed.", **arguments)


def looks(error: RocketMQError) -> dict[str, Any]:
    """Everything that users read, comparable: errors among the attempts by their own looks."""
    seen = dict(vars(error)) | {"kind": type(error), "args": error.args, "str": str(error)}
    seen |= {"retryable": error.retryable, "maybe_stored": error.maybe_stored}
    if isinstance(error, SendError):
        seen["attempts"] = [(one.queue, one.address, one.error and looks(one.error)) for one in error.attempts]
    return seen


def test_every_class_is_exported() -> None:
    """`__all__` has every class of the tree, and the two functions that make texts of what servers say."""
    assert set(errors.__all__) == {kind.__name__ for kind in CLASSES} | {"broker_error", "quote_remote"}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_place_in_the_tree(kind: type[RocketMQError]) -> None:
    """Everything is a `RocketMQError`, and besides what the built-in errors say it is."""
    parent = getattr(errors, PARENTS.get(kind.__name__, "RocketMQError"))
    assert issubclass(kind, parent)
    assert issubclass(kind, BUILT_IN.get(kind.__name__, RocketMQError))
    assert not issubclass(kind, OSError) or issubclass(kind, ConnectionError | TimeoutError)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_text_and_hint(kind: type[RocketMQError]) -> None:
    """The text says what happened, then what to do; both are attributes, and without a hint there is the text alone."""
    error = an_error(kind)
    assert str(error) == "It failed. Do this."
    assert (error.text, error.hint) == ("It failed.", "Do this.")
    needed: dict[str, Any] = {"code": 1} if issubclass(kind, BrokerError) else {}
    bare = kind("It failed.", **needed | ({"result": RESULT} if kind is errors.NotDurableError else {}))
    assert (str(bare), bare.hint) == ("It failed.", "")
    assert bare.retryable == (kind.__name__ in RETRYABLE or issubclass(kind, SendError))
    assert bare.maybe_stored == (kind is errors.NotDurableError)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(kind: type[RocketMQError], protocol: int) -> None:
    """Every error comes back from another process with all that it knows."""
    error = an_error(kind)
    error.retryable, error.maybe_stored = True, True
    error.add_note("seen at night")
    assert looks(pickle.loads(pickle.dumps(error, protocol))) == looks(error)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_copies(kind: type[RocketMQError]) -> None:
    """Copies, shallow and deep, and `again` are other objects of the same looks."""
    error = an_error(kind)
    for twin in (copy.copy(error), copy.deepcopy(error), error.again()):
        assert twin is not error
        assert looks(twin) == looks(error)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_again(kind: type[RocketMQError]) -> None:
    """An error raised again is a new one with a traceback of its own, whose cause is the first; that stays as it is."""
    first = an_error(kind)
    with pytest.raises(kind):
        raise first
    frames = len(traceback.extract_tb(first.__traceback__))
    again = first.again()
    assert again.__traceback__ is None
    with pytest.raises(kind) as caught:
        raise again
    assert caught.value is again
    assert again.__cause__ is first
    assert len(traceback.extract_tb(first.__traceback__)) == frames
    again.hint = "Do that."
    assert first.hint == "Do this."


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        (1, BrokerError, True),
        (2, errors.SystemBusyError, True),
        (13, errors.MessageIllegalError, False),
        (14, errors.ServiceNotAvailableError, True),
        (16, errors.NoPermissionError, True),
        (17, errors.TopicNotExistError, True),
        (204, BrokerError, True),
        (205, BrokerError, True),
        (215, errors.SystemBusyError, True),
        (1500, BrokerError, True),
        (3, BrokerError, False),
        (-1, BrokerError, False),
        (12_345, BrokerError, False),
    ],
)
def test_response_codes(code: int, kind: type[BrokerError], retryable: bool) -> None:
    """Each code has its class; Java's default set of retried codes, and flow control, can be tried again."""
    error = broker_error(code, "no luck", address="127.0.0.1:10911", name="SOME_CODE", request="SEND_MESSAGE_V2")
    assert type(error) is kind
    assert (error.code, error.remark, error.address) == (code, "no luck", "127.0.0.1:10911")
    assert error.text == f"127.0.0.1:10911 answered SEND_MESSAGE_V2 with SOME_CODE ({code}): no luck."
    assert error.hint == kind.default_hint
    assert (error.retryable, error.maybe_stored) == (retryable, False)
    assert looks(pickle.loads(pickle.dumps(error))) == looks(error)


def test_unknown_code_without_remark() -> None:
    """A code that nobody knows and no words: the text is whole all the same, and classes keep their defaults."""
    error = broker_error(999, None, address="a:1", name="", request="HEART_BEAT")
    assert str(error) == "a:1 answered HEART_BEAT with code 999."
    assert error.remark == ""
    assert broker_error(1, "", address="a:1", name="", request="x").retryable
    assert not BrokerError.retryable


def test_send_error_of_no_attempt() -> None:
    """Without an attempt nothing is stored, there is no code, and trying again can help."""
    error = SendTimeoutError("No room.", topic="Orders", message_id="ID")
    assert (error.attempts, error.maybe_stored, error.retryable) == ((), False, True)
    assert (error.code, error.remark) == (None, "")


@pytest.mark.parametrize("last_is_stored", [True, False])
def test_send_error_may_be_stored_if_any_attempt_may(last_is_stored: bool) -> None:
    """One attempt of unknown outcome is enough, whatever came after it."""
    lost = errors.ConnectionLostError("Lost.", maybe_stored=True)
    refused = errors.ConnectError("Refused.")
    order = [refused, lost] if last_is_stored else [lost, refused]
    error = errors.SendConnectionError("Failed.", attempts=[attempt(one) for one in order])
    assert error.maybe_stored
    assert not errors.SendConnectionError("Failed.", attempts=[attempt(refused)]).maybe_stored
    assert isinstance(error.attempts, tuple)


def test_send_error_takes_the_last_attempt() -> None:
    """Code, remark and whether to try again are those of the last attempt."""
    busy = broker_error(2, "busy", address="a:1", name="SYSTEM_BUSY", request="SEND_MESSAGE_V2")
    illegal = broker_error(13, "too long", address="a:1", name="MESSAGE_ILLEGAL", request="SEND_MESSAGE_V2")
    for order, expected in (([busy, illegal], (13, "too long", False)), ([illegal, busy], (2, "busy", True))):
        error = errors.SendRejectedError("Failed.", attempts=[attempt(one) for one in order])
        assert (error.code, error.remark, error.retryable) == expected
    lost = errors.SendConnectionError("Failed.", attempts=[attempt(illegal), attempt(errors.ConnectError("Refused."))])
    assert (lost.code, lost.remark, lost.retryable) == (None, "", True)


def test_answers_of_name_servers_are_copied() -> None:
    """The error keeps what was answered then."""
    answers = {"a:9876": "refused"}
    error = errors.NameServersUnavailableError("None.", answers=answers)
    answers.clear()
    assert error.answers == {"a:9876": "refused"}


def test_codec_errors_do_not_ask_for_a_retry() -> None:
    """The same bytes are wrong again."""
    assert not LocalProtocolError("Bad.").retryable


def test_text_of_a_stranger() -> None:
    """What a server says cannot colour a terminal, break a log line or fill a disk; the attribute keeps all of it."""
    remark = "\x1b[31mred\nline\u2028中" + "x" * 1_000_000
    error = broker_error(1, remark, address="a\x00:1", name="SYSTEM_ERROR", request="SEND_MESSAGE_V2")
    assert str(error).isprintable() and len(str(error)) < 700
    assert "\\x1b[31mred\\nline\\u2028中xxx" in str(error) and " characters)" in str(error)
    assert error.remark == remark
