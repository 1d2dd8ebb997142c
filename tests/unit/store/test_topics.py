"""The topics of a broker and the version of their table."""

from __future__ import annotations

from broker_sim.store.topics import TopicTable
from rocketmq_aio.wire.bodies import DataVersion, TopicConfig


def test_version_changes_with_the_table_only() -> None:
    """Each change counts up and takes the time; a put of what is there already changes nothing."""
    table = TopicTable(1000)
    assert table.version == DataVersion(timestamp=1000, counter=0)
    assert table.put(TopicConfig("A", 4, 4), 1001)
    assert not table.put(TopicConfig("A", 4, 4), 1002)
    assert table.version == DataVersion(timestamp=1001, counter=1)
    assert table.put(TopicConfig("A", 8, 8), 1003)
    assert table.version == DataVersion(timestamp=1003, counter=2)


def test_look_up() -> None:
    """A topic is found by its name; `all` is a copy."""
    table = TopicTable(0)
    table.put(TopicConfig("A", 1, 1), 0)
    assert table.get("A") == TopicConfig("A", 1, 1)
    assert table.get("B") is None
    table.all().clear()
    assert list(table) == ["A"] and len(table) == 1
