"""Names of topics and groups are judged as Java's broker judges them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker_sim.requests.names import group_name_is_legal, is_system_topic, topic_name_problem

GOLDEN = Path(__file__).parents[2] / "golden" / "names.jsonl"
TOPICS = [line for line in map(msgspec.json.decode, GOLDEN.read_bytes().splitlines()) if line["kind"] == "topic"]


@pytest.mark.parametrize("line", TOPICS, ids=lambda line: line["name"][:20] or "empty")
def test_topic_names(line: dict[str, Any]) -> None:
    """The same names are refused, with the same words, and the same topics are the system's."""
    assert topic_name_problem(line["name"]) == line.get("broker_remark")
    assert is_system_topic(line["name"]) == line["is_system_topic"]


def test_no_topic_name() -> None:
    """A missing name is a blank one."""
    assert topic_name_problem(None) == "The specified topic is blank."


@pytest.mark.parametrize(
    ("name", "legal"),
    [("CG", True), ("%a|b-_", True), ("g" * 120, True), ("g" * 121, False), ("", False), ("a.b", False), ("ä", False)],
)
def test_group_names(name: str, legal: bool) -> None:
    """Up to 120 of the characters that topics may have."""
    assert group_name_is_legal(name) is legal
