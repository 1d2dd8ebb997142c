"""`host:port` as text, and back.

Source: none; RocketMQ splits such texts wherever it needs them.
"""

from __future__ import annotations

from rocketmq_aio.errors import ConfigError

__all__ = ["NAME_SERVER_PORT", "join_address", "parse_address"]

#: The port of name servers when none is given.
NAME_SERVER_PORT = 9876


def join_address(host: str, port: int) -> str:
    """`host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """`host:port` → (host, port). An IPv6 address stands in brackets.

    Args:
        text: the address.
        default_port: the port when there is none; None refuses such an address.

    Raises:
        ConfigError: it is no address; the text says what is wrong.
    """
    rest = text.strip()
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        valid = bracket and (port == "" or port.startswith(":"))
        port = port[1:]
    else:
        host, colon, port = rest.rpartition(":")
        if not colon:
            host, port = rest, ""
        valid = ":" not in host
    if not valid or not host or "/" in host or " " in host or not host.isprintable():
        raise ConfigError(f"{text!r} is not an address.", hint="It looks like 'host:9876' or '[::1]:9876'.")
    if port == "" and default_port is not None:
        return host, default_port
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) <= 65_535):
        raise ConfigError(f"{text!r} has no port from 1 to 65535.", hint="It looks like 'host:9876' or '[::1]:9876'.")
    return host, int(port)
