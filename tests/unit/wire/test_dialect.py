"""The dialect reader's bounds: a stranger's text costs no more than it is worth."""

from __future__ import annotations

from typing import Any

import pytest

from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.wire.bodies import TopicRouteData, decode_json
from rocketmq_aio.wire.dialect import DIALECT_BYTES_MAX, read_dialect


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{0:"a",-1:"b"}', {"0": "a", "-1": "b"}),
        ('{{"q":1}:2}', {'{"q":1}': 2}),
        ('{"a":{"x":1},"b":{"$ref":"$.a"}}', {"a": {"x": 1}, "b": {"x": 1}}),
        ('{"a":[{"x":1}],"b":{"$ref":"$.a[0]"}}', {"a": [{"x": 1}], "b": {"x": 1}}),
        ('{"a":{"$ref":"$"},"b":{"$ref":"$.c"},"d":{"$ref":".."}}', {}),
        ('[1,null,"x",true,1.5]', [1, "x", True, 1.5]),
    ],
)
def test_dialect(text: str, value: Any) -> None:
    """Bare keys, objects as keys, references; what leads nowhere or in a circle is left out, like null."""
    assert read_dialect(text) == value


@pytest.mark.parametrize("text", ["", "{", "[1,", "{1}", "{1:}", "nothing", "[1]]", "[" * 100, '{"a" "b"}', "[1 2]"])
def test_no_dialect(text: str) -> None:
    """What is malformed, or too deep, is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        read_dialect(text)


def test_references_are_followed_within_bounds() -> None:
    """Many references to one large value are work without end from few bytes: refused, whatever their order."""
    large = ",".join("1" * 1 for _ in range(5_000))
    references = ",".join('{"$ref":"$.a"}' for _ in range(100))
    with pytest.raises(ValueError, match="too long to follow"):
        read_dialect(f'{{"a":[{large}],"b":[{references}]}}')


def test_long_texts_are_not_tried() -> None:
    """A long body that is no JSON is refused without a second reading."""
    with pytest.raises(LocalProtocolError, match="cannot be read"):
        decode_json(TopicRouteData, b"{0:" + b" " * DIALECT_BYTES_MAX + b"1}")
