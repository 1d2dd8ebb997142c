"""Every knob: its unit, range, Java name and default. A config that exists is valid.

Source: `DefaultMQProducer.java`, `ClientConfig.java`, `NettyClientConfig.java` (5.3.3).
Differs: seconds instead of milliseconds; nothing can be changed after construction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import msgspec

from rocketmq_aio.errors import ConfigError

__all__ = ["ClientConfig", "ProducerConfig", "Window"]

MiB = 1024 * 1024


def _seconds(owner: str, name: str, value: object, low: float, high: float) -> float:
    """A duration, in seconds or as a timedelta, as seconds."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not (low <= seconds <= high):
        raise ConfigError(f"{owner}: {name} must be a number of seconds from {low:g} to {high:g}, not {value!r}.")
    return seconds


def _set_seconds(config: msgspec.Struct, name: str, low: float, high: float) -> None:
    """Check a field, and keep a timedelta as seconds, so that all who read it read floats."""
    seconds = _seconds(type(config).__name__, name, getattr(config, name), low, high)
    msgspec.structs.force_setattr(config, name, seconds)


def _check_count(owner: str, name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{owner}: {name} must be a whole number from {low:,} to {high:,}, not {value!r}.")


def _check_text(owner: str, name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(f"{owner}: {name} must be a str, not {value!r}.")
    if not value.isprintable():  # nor can UTF-8 express half of a surrogate pair
        raise ConfigError(f"{owner}: {name} has characters that cannot be printed: {value!r}.")


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be in flight at once. A send that finds no room waits for it, within its deadline.

    Attributes:
        messages_max: messages, 1 to 1,000,000 (Java: `clientAsyncSemaphoreValue`, 65,535).
        bytes_max: bytes of bodies, from 1 (Java: `backPressureForAsyncSendSize`, 100 MiB).
    """

    messages_max: int = 65_535
    bytes_max: int = 100 * MiB

    def __post_init__(self) -> None:
        """Check ranges."""
        _check_count("Window", "messages_max", self.messages_max, 1, 1_000_000)
        _check_count("Window", "bytes_max", self.bytes_max, 1, 1 << 40)


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What all clients have in common.

    Attributes:
        instance: name of the client instance, part of its client id. None: one of its own for each producer, in each
            process (Java: `instanceName`).
        unit: unit name, the last part of the client id (Java: `unitName`).
        route_refresh: seconds between two looks at the routes in use, 0.01 to 3,600 (Java: `pollNameServerInterval`,
            30,000 ms).
        heartbeat: seconds between heartbeats to the brokers, 0.01 to 3,600; brokers forget a client after 120 s (Java:
            `heartbeatBrokerInterval`, 30,000 ms).
        connect_timeout: seconds that making one connection may take, 0.001 to 600 (Java: `connectTimeoutMillis`,
            3,000 ms).
        reconnect_backoff: seconds after a failed connect in which no new one is tried: the first pause and the longest,
            doubling between them. Java tries again at every request.
        address_map: what brokers register → what this host can reach, as `host:port`, or a function: for brokers in
            containers. Java has none.
    """

    instance: str | None = None
    unit: str = ""
    route_refresh: float = 30.0
    heartbeat: float = 30.0
    connect_timeout: float = 3.0
    reconnect_backoff: tuple[float, float] = (0.05, 2.0)
    address_map: Mapping[str, str] | Callable[[str], str] | None = None

    def __post_init__(self) -> None:
        """Check ranges and copy what could change later."""
        me = "ClientConfig"
        if self.instance is not None:
            _check_text(me, "instance", self.instance)
        _check_text(me, "unit", self.unit)
        _set_seconds(self, "route_refresh", 0.01, 3600)
        _set_seconds(self, "heartbeat", 0.01, 3600)
        _set_seconds(self, "connect_timeout", 0.001, 600)
        if not isinstance(self.reconnect_backoff, tuple) or len(self.reconnect_backoff) != 2:
            raise ConfigError(f"{me}: reconnect_backoff must be a pair of seconds, not {self.reconnect_backoff!r}.")
        first = _seconds(me, "reconnect_backoff[0]", self.reconnect_backoff[0], 0, 3600)
        longest = _seconds(me, "reconnect_backoff[1]", self.reconnect_backoff[1], first, 3600)
        msgspec.structs.force_setattr(self, "reconnect_backoff", (first, longest))
        if isinstance(self.address_map, Mapping):
            for registered, reachable in self.address_map.items():
                _check_text(me, "each address in address_map", registered)
                _check_text(me, "each address in address_map", reachable)
            msgspec.structs.force_setattr(self, "address_map", dict(self.address_map))
        elif self.address_map is not None and not callable(self.address_map):
            raise ConfigError(f"{me}: address_map must be a mapping or a function, not {self.address_map!r}.")


class ProducerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a producer does.

    Attributes:
        send_timeout: seconds for the whole of one `send`, waiting included, 0.001 to 86,400 (Java: `sendMsgTimeout`,
            3,000 ms). The default of `send(send_timeout=)`.
        max_message_bytes: largest body, 1 byte to 15 MiB (Java: `maxMessageSize`, 4 MiB). Brokers have a limit of their
            own, 4 MiB unless configured otherwise.
        window: how much may be in flight.
        drain: seconds that `aclose` waits for messages in flight, 0 to 86,400. The default of `aclose(drain=)`. Java
            does not wait.
        client: what all clients have in common.
    """

    send_timeout: float = 3.0
    max_message_bytes: int = 4 * MiB
    window: Window = Window()
    drain: float = 5.0
    client: ClientConfig = ClientConfig()

    def __post_init__(self) -> None:
        """Check ranges."""
        me = "ProducerConfig"
        _set_seconds(self, "send_timeout", 0.001, 86_400)
        _check_count(me, "max_message_bytes", self.max_message_bytes, 1, 15 * MiB)
        _set_seconds(self, "drain", 0, 86_400)
        for name, kind in (("window", Window), ("client", ClientConfig)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"{me}: {name} must be a {kind.__name__}, not {getattr(self, name)!r}.")

