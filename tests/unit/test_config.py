"""Configuration: defaults are Java's, what is out of range is refused with value and limits, nothing changes later."""

from __future__ import annotations

import math
import pickle
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from rocketmq_aio.config import ClientConfig, ProducerConfig, Window
from rocketmq_aio.errors import ConfigError

Config = type[ClientConfig] | type[ProducerConfig] | type[Window]

SECONDS = [
    (ProducerConfig, "send_timeout", 0.001, 86_400),
    (ProducerConfig, "drain", 0, 86_400),
    (ClientConfig, "route_refresh", 0.01, 3600),
    (ClientConfig, "heartbeat", 0.01, 3600),
    (ClientConfig, "connect_timeout", 0.001, 600),
]
COUNTS = [
    (ProducerConfig, "max_message_bytes", 1, 15 * 1024 * 1024),
    (Window, "messages_max", 1, 1_000_000),
    (Window, "bytes_max", 1, 1 << 40),
]
NAMES = [f"{config.__name__}-{name}" for config, name, _, _ in SECONDS + COUNTS]


def test_defaults_are_those_of_java() -> None:
    """Without arguments a client behaves like Java's, in seconds."""
    config = ProducerConfig()
    assert config.send_timeout == 3.0
    assert config.max_message_bytes == 4 * 1024 * 1024
    assert (config.window.messages_max, config.window.bytes_max) == (65_535, 100 * 1024 * 1024)
    assert (config.client.route_refresh, config.client.heartbeat, config.client.connect_timeout) == (30.0, 30.0, 3.0)
    assert (config.client.instance, config.client.unit, config.client.address_map) == (None, "", None)


@pytest.mark.parametrize(("config", "name", "low", "high"), SECONDS + COUNTS, ids=NAMES)
def test_limits_are_allowed(config: Config, name: str, low: float, high: float) -> None:
    """Both ends of a range are in it."""
    assert getattr(config(**{name: low}), name) == low
    assert getattr(config(**{name: high}), name) == high


@pytest.mark.parametrize(("config", "name", "low", "high"), SECONDS, ids=NAMES[: len(SECONDS)])
@pytest.mark.parametrize("value", [-1, -0.001, math.inf, -math.inf, math.nan, 1e9, True, "3", None])
def test_seconds_out_of_range(config: Config, name: str, low: float, high: float, value: Any) -> None:
    """The error names the field, the value and both limits."""
    with pytest.raises(ConfigError) as caught:
        config(**{name: value})
    text = str(caught.value)
    assert f"{config.__name__}: {name} must be a number of seconds from {low:g} to {high:g}, not {value!r}." == text


@pytest.mark.parametrize(("config", "name", "low", "high"), COUNTS, ids=NAMES[len(SECONDS) :])
@pytest.mark.parametrize("value", [0, -1, 1 << 50, 1.0, True, "3", None])
def test_counts_out_of_range(config: Config, name: str, low: int, high: int, value: Any) -> None:
    """The error names the field, the value and both limits."""
    with pytest.raises(ConfigError) as caught:
        config(**{name: value})
    text = str(caught.value)
    assert f"{config.__name__}: {name} must be a whole number from {low:,} to {high:,}, not {value!r}." == text


@pytest.mark.parametrize(
    ("config", "arguments", "words"),
    [
        (ClientConfig, {"instance": 5}, "instance must be a str, not 5"),
        (ClientConfig, {"unit": None}, "unit must be a str, not None"),
        (ClientConfig, {"reconnect_backoff": 1.0}, "reconnect_backoff must be a pair .*, not 1.0"),
        (ClientConfig, {"reconnect_backoff": (1.0,)}, "reconnect_backoff must be a pair"),
        (ClientConfig, {"reconnect_backoff": (-1.0, 2.0)}, r"reconnect_backoff\[0\] .* from 0 to 3600, not -1.0"),
        (ClientConfig, {"reconnect_backoff": (5.0, 2.0)}, r"reconnect_backoff\[1\] .* from 5 to 3600, not 2.0"),
        (ClientConfig, {"reconnect_backoff": (1.0, math.inf)}, r"reconnect_backoff\[1\] .* from 1 to 3600, not inf"),
        (ClientConfig, {"address_map": "a=b"}, "address_map must be a mapping or a function, not 'a=b'"),
        (ProducerConfig, {"window": 5}, "window must be a Window, not 5"),
        (ProducerConfig, {"client": None}, "client must be a ClientConfig, not None"),
    ],
)
def test_wrong_forms(config: Config, arguments: dict[str, Any], words: str) -> None:
    """Values of another form are refused by name."""
    with pytest.raises(ConfigError, match=words):
        config(**arguments)


def test_config_error_is_a_value_error() -> None:
    """Programs that know nothing of RocketMQ catch it as what it is."""
    with pytest.raises(ValueError, match="send_timeout"):
        ProducerConfig(send_timeout=0)


@pytest.mark.parametrize("config", [ClientConfig(), ProducerConfig(), Window()], ids=lambda one: type(one).__name__)
def test_config_is_frozen(config: Any) -> None:
    """No field can be set, and none is given by position."""
    for name in config.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(config, name, None)
    with pytest.raises(TypeError):
        type(config)(1)


def test_replacing_checks_again() -> None:
    """`msgspec.structs.replace` makes no invalid config."""
    assert msgspec.structs.replace(ProducerConfig(), send_timeout=5).send_timeout == 5
    with pytest.raises(ConfigError, match=r"send_timeout must be .*, not -1"):
        msgspec.structs.replace(ProducerConfig(), send_timeout=-1)
    with pytest.raises(ConfigError, match=r"messages_max must be .*, not 0"):
        msgspec.structs.replace(Window(), messages_max=0)


def test_address_map_is_copied() -> None:
    """Changing the mapping later does not change the config."""
    given = {"172.17.0.2:10911": "127.0.0.1:10911"}
    config = ClientConfig(address_map=given)
    given.clear()
    for one in (config, msgspec.structs.replace(config, unit="u")):
        assert one.address_map == {"172.17.0.2:10911": "127.0.0.1:10911"}


def test_address_map_may_be_a_function() -> None:
    """A function is kept as it is."""
    assert ClientConfig(address_map=str.upper).address_map is str.upper


def test_equal_configs() -> None:
    """Configs are values: equal if their fields are, and picklable."""
    assert ProducerConfig(client=ClientConfig(unit="u")) == ProducerConfig(client=ClientConfig(unit="u"))
    assert ProducerConfig(drain=1) != ProducerConfig()
    assert pickle.loads(pickle.dumps(ProducerConfig(drain=1))) == ProducerConfig(drain=1)


def test_durations_may_be_timedeltas() -> None:
    """They are kept as seconds; the limits are the same."""
    config = ProducerConfig(send_timeout=timedelta(milliseconds=1500), drain=timedelta(0))  # type: ignore[arg-type]
    assert (config.send_timeout, config.drain) == (1.5, 0.0)
    pauses: Any = (timedelta(seconds=1), 2)
    client = ClientConfig(reconnect_backoff=pauses, heartbeat=timedelta(minutes=1))  # type: ignore[arg-type]
    assert (client.reconnect_backoff, client.heartbeat) == ((1.0, 2), 60.0)
    with pytest.raises(ConfigError, match=r"send_timeout must be .* from 0\.001 to 86400"):
        ProducerConfig(send_timeout=timedelta(days=2))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "a\nb"])
def test_texts_must_be_printable(text: str) -> None:
    """They go on the wire and into logs."""
    with pytest.raises(ConfigError, match="cannot be printed"):
        ClientConfig(instance=text)
    with pytest.raises(ConfigError, match="address in address_map"):
        ClientConfig(address_map={"a:1": text})
