"""`host:port`, with all that people write instead."""

from __future__ import annotations

import pytest

from rocketmq_aio.errors import ConfigError
from rocketmq_aio.net.addresses import parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9876", "127.0.0.1", 9876),
        ("broker-a:1", "broker-a", 1),
        ("broker_a.example.org:65535", "broker_a.example.org", 65535),
        ("  h:80\t\n", "h", 80),
        ("[::1]:9876", "::1", 9876),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("h:00080", "h", 80),
        ("中:80", "中", 80),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    """Names, IPv4, and IPv6 in brackets; a default port changes nothing when there is one."""
    assert parse_address(text) == (host, port)
    assert parse_address(text, 1234) == (host, port)


@pytest.mark.parametrize(
    ("text", "host"),
    [("h", "h"), ("h:", "h"), ("10.0.0.1", "10.0.0.1"), ("[::1]", "::1"), ("[::1]:", "::1"), (" h ", "h")],
)
def test_the_port_may_be_missing_where_there_is_a_default(text: str, host: str) -> None:
    """Name servers have one, brokers have none."""
    assert parse_address(text, 9876) == (host, 9876)
    with pytest.raises(ConfigError, match="has no port from 1 to 65535"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ":", ":80", "[]:80", "[::1", "[::1]80", "[::1]x:80", "::1", "::1:80", "1:2:80", "h :80", "http://h:80",
        "h/path:80", "tcp://[::1]:80",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    """The error repeats the text and shows what an address looks like."""
    with pytest.raises(ConfigError) as caught:
        parse_address(text, 9876)
    assert caught.value.text == f"{text!r} is not an address."
    assert caught.value.hint == "It looks like 'host:9876' or '[::1]:9876'."


@pytest.mark.parametrize(
    "port",
    ["0", "65536", "-1", "+80", "8 0", "80.0", "x", "٨٠", "²", "1_0", pytest.param("9" * 5000, id="9..."), "000080"],
)
def test_what_is_no_port_is_refused(port: str) -> None:
    """Ports are 1 to 65535, in ASCII digits; a number of any length is an error of ours and not of Python's."""
    with pytest.raises(ConfigError, match="has no port from 1 to 65535") as caught:
        parse_address(f"host:{port}", 9876)
    assert f"'host:{port}'" in caught.value.text
    assert caught.value.hint
