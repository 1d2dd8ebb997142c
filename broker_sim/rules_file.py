"""Injections from a file, for those who have no Python: a text in TOML becomes arguments of `Cluster.inject`.

    [[inject]]
    requests = "SEND"             # left out: all requests
    verdict = "Reply"
    code = "SYSTEM_BUSY"
    times = 2

Each `[[inject]]` is one injection. Its members are the arguments of `Cluster.inject` and those of the verdict. Whatever
cannot be used is refused with the line where its injection begins; a file is taken whole or not at all. Functions
(`when`, `Corrupt`) cannot be written in a file.

Source: none in Java.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec

from broker_sim.inject import Rule, request_codes
from broker_sim.verdicts import VERDICTS, Corrupt, Reply, Status, Verdict
from rocketmq_aio.codes import SEND, RequestCode, ResponseCode
from rocketmq_aio.errors import ConfigError
from rocketmq_aio.message import SendStatus

__all__ = ["FileRule", "parse_rules"]

_VERDICTS: dict[str, type[Verdict]] = {
    kind.__name__: kind for kind in VERDICTS if kind is not Corrupt
}
#: Arguments of `Cluster.inject` beside requests and verdict.
_OPTIONS = ("broker", "topic", "times", "after", "probability")

_begins_rule = re.compile(r"\s*\[\[\s*inject\s*\]\]").match


class FileRule(msgspec.Struct, frozen=True):
    """One injection of a file: what `Cluster.inject` is to be called with.

    Attributes:
        line: where it begins, from 1.
        requests: request codes; None for all.
        verdict: what becomes of the requests.
        options: the other arguments, by name.
    """

    line: int
    requests: frozenset[int] | None
    verdict: Verdict
    options: Mapping[str, Any]


def parse_rules(text: str) -> list[FileRule]:
    """The injections of a file, in their order.

    Raises:
        ConfigError: it is no TOML, or an injection cannot be used; the text says which line.
    """
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # a TOMLDecodeError, or a number with thousands of digits
        last = text.rstrip("\n").count("\n") + 1
        where = str(error).replace("(at end of document)", f"(at the end, line {last})")
        raise ConfigError(f"not TOML: {where}.") from error
    except RecursionError as error:
        raise ConfigError("not a rules file: it is nested too deeply.") from error
    for name in document:
        if name != "inject":
            raise ConfigError(f"there is no {name!r} in a rules file.", hint="Each injection begins with [[inject]].")
    tables = document.get("inject", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError("inject is not a list of tables.", hint="Each injection begins with [[inject]].")
    lines = [number for number, line in enumerate(text.split("\n"), 1) if _begins_rule(line)]
    if len(lines) != len(tables):  # written as inline tables, or inside of a text
        lines = [1] * len(tables)
    return [_rule(line, table) for line, table in zip(lines, tables, strict=True)]


def _rule(line: int, table: dict[str, Any]) -> FileRule:
    try:
        rest = dict(table)
        requests = _codes(rest.pop("requests")) if "requests" in rest else None
        options = {name: rest.pop(name) for name in _OPTIONS if name in rest}
        verdict = _verdict(rest.pop("verdict", None), rest)
        Rule(requests or frozenset(), verdict, **{name: options[name] for name in options if name != "broker"})
    except ConfigError as error:
        raise ConfigError(f"line {line}: {error.text}", hint=error.hint) from error
    return FileRule(line, requests, verdict, options)


def _verdict(name: object, arguments: dict[str, Any]) -> Verdict:
    kind = _VERDICTS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ConfigError(f"verdict is {name!r}.", hint=f"It must be one of {', '.join(_VERDICTS)}.")
    known = kind.__struct_fields__
    for argument in arguments:
        if argument not in known:
            possible = ", ".join(("requests", "verdict", *_OPTIONS, *known))
            raise ConfigError(f"there is no {argument!r} in a {name}.", hint=f"There are {possible}.")
    if kind is Reply and "code" in arguments:
        arguments["code"] = _number(ResponseCode, arguments["code"])
    if isinstance(arguments.get("body"), str):
        arguments["body"] = arguments["body"].encode()
    if kind is Status and "status" in arguments:
        arguments["status"] = _member(SendStatus, arguments["status"])
    try:
        return kind(**arguments)
    except TypeError as error:  # an argument is missing
        raise ConfigError(f"a {name} needs more: {error}.") from error


def _codes(requests: object) -> frozenset[int]:
    several = requests if isinstance(requests, list) else [requests]
    codes: list[Any] = []
    for one in several:
        codes += SEND if one == "SEND" else [_number(RequestCode, one)]
    return request_codes(codes)


def _number(kind: Any, value: object) -> Any:
    """A code by its name; a number, or what is neither, as it is."""
    return _member(kind, value) if isinstance(value, str) else value


def _member(kind: Any, name: object) -> Any:
    if not isinstance(name, str) or name not in kind.__members__:
        raise ConfigError(f"{name!r} is no {kind.__name__}.")
    return kind[name]

