"""An asyncio client for Apache RocketMQ's remoting protocol.

    async with Producer("my-group", namesrv="localhost:9876") as producer:
        result = await producer.send(Message("my-topic", b"hello"))

What is listed in `__all__` is public; everything else may change on any day. Names are loaded on first use, so that
importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rocketmq_aio.codes import SEND, RequestCode, ResponseCode
    from rocketmq_aio.config import ClientConfig, ProducerConfig, Window
    from rocketmq_aio.environment import Environment
    from rocketmq_aio.errors import (
        AuthenticationError,
        BrokerError,
        ClosedError,
        ConfigError,
        ConnectError,
        ConnectionLostError,
        ForkedError,
        MessageError,
        MessageIllegalError,
        NameServersUnavailableError,
        NoPermissionError,
        NoRouteError,
        NotDurableError,
        NotStartedError,
        NoWritableQueueError,
        RemoteProtocolError,
        RequestTimeoutError,
        RocketMQError,
        RouteError,
        SendConnectionError,
        SendError,
        SendRejectedError,
        SendTimeoutError,
        ServiceNotAvailableError,
        StateError,
        SystemBusyError,
        TopicNotExistError,
        TransportError,
        WrongLoopError,
    )
    from rocketmq_aio.lifecycle import State
    from rocketmq_aio.message import Message, MessageExt, MessageQueue, SendAttempt, SendResult, SendStatus
    from rocketmq_aio.observe import LatencyHistogram, ProducerStats
    from rocketmq_aio.producer import CloseReport, Producer

_EXPORTS = {
    "codes": "SEND RequestCode ResponseCode",
    "config": "ClientConfig ProducerConfig Window",
    "environment": "Environment",
    "errors": (
        "AuthenticationError BrokerError ClosedError ConfigError ConnectError ConnectionLostError ForkedError "
        "MessageError MessageIllegalError NameServersUnavailableError NoPermissionError NoRouteError "
        "NoWritableQueueError NotDurableError NotStartedError RemoteProtocolError RequestTimeoutError RocketMQError "
        "RouteError SendConnectionError SendError SendRejectedError SendTimeoutError ServiceNotAvailableError "
        "StateError SystemBusyError TopicNotExistError TransportError WrongLoopError"
    ),
    "lifecycle": "State",
    "message": "Message MessageExt MessageQueue SendAttempt SendResult SendStatus",
    "observe": "LatencyHistogram ProducerStats",
    "producer": "CloseReport Producer",
}
_HOMES = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__all__ = [
    "SEND",
    "AuthenticationError",
    "BrokerError",
    "ClientConfig",
    "CloseReport",
    "ClosedError",
    "ConfigError",
    "ConnectError",
    "ConnectionLostError",
    "Environment",
    "ForkedError",
    "LatencyHistogram",
    "Message",
    "MessageError",
    "MessageExt",
    "MessageIllegalError",
    "MessageQueue",
    "NameServersUnavailableError",
    "NoPermissionError",
    "NoRouteError",
    "NoWritableQueueError",
    "NotDurableError",
    "NotStartedError",
    "Producer",
    "ProducerConfig",
    "ProducerStats",
    "RemoteProtocolError",
    "RequestCode",
    "RequestTimeoutError",
    "ResponseCode",
    "RocketMQError",
    "RouteError",
    "SendAttempt",
    "SendConnectionError",
    "SendError",
    "SendRejectedError",
    "SendResult",
    "SendStatus",
    "SendTimeoutError",
    "ServiceNotAvailableError",
    "State",
    "StateError",
    "SystemBusyError",
    "TopicNotExistError",
    "TransportError",
    "Window",
    "WrongLoopError",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("rocketmq-aio")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
