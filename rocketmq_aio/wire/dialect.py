"""Reading fastjson's dialect: JSON with bare numeric keys, objects as keys, and references.

Old name servers write routes in it, and brokers write offsets in it. It is read slowly and within bounds, because a
stranger can send it too: a text has a longest length, values a deepest nesting, and references a number of looks.

Source: fastjson 1.2.83, as Java brokers use it.
Differs: references upwards (`..`) are left out, like those that go round in a circle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["DIALECT_BYTES_MAX", "read_dialect"]

DIALECT_BYTES_MAX = 256 * 1024
DEPTH_MAX = 64
#: Values that are looked at while references are followed.
LOOKS_MAX = 100_000


def read_dialect(text: str) -> Any:
    """The value of a text, of dicts, lists, texts and numbers. Null members are left out.

    Raises:
        ValueError: it is no such text, or too deep, or its references lead too far.
    """
    return _Reader(text).value()


class _Reader:
    """Reads one text of fastjson's dialect into dicts, lists, texts and numbers. Null members are left out."""

    _token = re.compile(r'[ \t\r\n]*(?:("[^"\\]*(?:\\.[^"\\]*)*")|([{}\[\]:,])|([^\s{}\[\]:,"]+)|$)', re.DOTALL)
    _number = re.compile(r"-?[0-9]{1,20}", re.ASCII)
    _step = re.compile(r"\.([^.\[\]]+)|\[([0-9]{1,9})\]", re.ASCII)
    _constants: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._references = 0
        self._looks_left = LOOKS_MAX

    def value(self) -> Any:
        """The whole text."""
        root = self._value(self._next(), 0)
        if self._next():
            raise ValueError("there is something behind the end")
        return self._resolved(root, root) if self._references else root

    def _next(self) -> str:
        found = self._token.match(self._text, self._position)
        if found is None:
            raise ValueError(f"malformed at character {self._position}")
        self._position = found.end()
        return found[1] or found[2] or found[3] or ""

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise ValueError(f"{token!r} is missing before character {self._position}")

    def _value(self, token: str, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise ValueError(f"nested more than {DEPTH_MAX} deep")
        if token == "{":
            return self._object(depth + 1)
        if token == "[":
            return self._array(depth + 1)
        if token[:1] == '"':
            return msgspec.json.decode(token, type=str)
        if token in self._constants:
            return self._constants[token]
        if self._number.fullmatch(token):
            return int(token)
        return msgspec.json.decode(token)

    def _object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        token = self._next()
        while token != "}":
            key = self._value(token, depth)
            self._expect(":")
            value = self._value(self._next(), depth)
            if value is not None:
                name = key if isinstance(key, str) else msgspec.json.encode(key).decode()
                self._references += name == "$ref"
                members[name] = value
            token = self._next()
            if token == ",":
                token = self._next()
            elif token != "}":
                raise ValueError(f"'}}' is missing before character {self._position}")
        return members

    def _array(self, depth: int) -> list[Any]:
        items: list[Any] = []
        token = self._next()
        while token != "]":
            value = self._value(token, depth)
            if value is not None:
                items.append(value)
            token = self._next()
            if token == ",":
                token = self._next()
            elif token != "]":
                raise ValueError(f"']' is missing before character {self._position}")
        return items

    def _resolved(self, value: Any, root: Any) -> Any:
        """A copy in which references are replaced by what they refer to."""
        self._look()
        if isinstance(value, list):
            items = (self._resolved(item, root) for item in value)
            return [item for item in items if item is not None]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return self._target(str(value["$ref"]), root)
        members = {name: self._resolved(member, root) for name, member in value.items()}
        return {name: member for name, member in members.items() if member is not None}

    def _target(self, path: str, root: Any) -> Any:
        target, position = root, 1
        while position < len(path):
            step = self._step.match(path, position)
            if step is None or not path.startswith("$"):
                return None
            position = step.end()
            try:
                target = target[step[1]] if step[2] is None else target[int(step[2])]
            except (KeyError, IndexError, TypeError):
                return None
        return None if self._refers(target) else target

    def _refers(self, value: Any) -> bool:
        """Whether there is a reference below `value`: such a target could go round in a circle."""
        self._look()
        if isinstance(value, dict):
            return "$ref" in value or any(map(self._refers, value.values()))
        return isinstance(value, list) and any(map(self._refers, value))

    def _look(self) -> None:
        self._looks_left -= 1
        if self._looks_left < 0:
            raise ValueError("it takes too long to follow its references")
