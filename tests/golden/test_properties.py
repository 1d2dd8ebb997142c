"""The property string, against Java of four versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rocketmq_aio.properties import decode_properties, encode_properties

Row = dict[str, Any]
TEXT = (Path(__file__).parent / "properties.jsonl").read_text(encoding="utf-8")
# Java's null strings and null maps have no counterpart here.
ROWS: list[Row] = [row for line in TEXT.splitlines() if "string_hex" in (row := json.loads(line))]
READ = [row for row in ROWS if row["kind"] == "string_to_map"]
WRITTEN = [row for row in ROWS if row["kind"] == "map_to_string"]


def label(row: Row) -> str:
    return f"{row['string_hex'][:40] or 'empty'}-{row['origin'][:10]}".replace(" ", "_")


def test_vectors_are_complete() -> None:
    """Every kind of vector is there: a test over an empty list would pass."""
    assert (len(READ), len(WRITTEN)) == (27, 20)


@pytest.mark.parametrize("row", READ, ids=label)
def test_string_is_read_as_by_java(row: Row) -> None:
    """Odd strings included: no name, no value, no end, twice the same name, a separator too many."""
    assert bytes.fromhex(row["string_hex"]).decode() == row["string"]
    assert decode_properties(row["string"]) == row["map"]


@pytest.mark.parametrize("row", WRITTEN, ids=label)
def test_map_is_written_as_by_java(row: Row) -> None:
    """5.3.3 writes the same string; 4.9.7 and 5.1.4 leave out the last separator. Both read back the same."""
    pairs = [(name, value) for name, value in row["map_in_order"] if value is not None]
    text = encode_properties(pairs)
    if "5.3.3" in row["origin"]:
        assert text == row["string"]
    else:
        assert text == row["string"] + "\x02"
    assert encode_properties(dict(pairs)) == text
    assert decode_properties(text) == decode_properties(row["string"]) == row["read_back"]
