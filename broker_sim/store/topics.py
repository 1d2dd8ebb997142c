"""The topics of one broker, with the version by which name servers tell whether they have changed.

Source: `TopicConfigManager.java`, `DataVersion.java` (5.3.3).
"""

from __future__ import annotations

from collections.abc import Iterator

from rocketmq_aio.wire.bodies import DataVersion, TopicConfig

__all__ = ["TopicTable"]


class TopicTable:
    """Topic name → configuration, in the order of their creation.

    Attributes:
        get: `get(name)` is the topic's configuration, or None. Not to be changed in place.
        version: changes with each change of the table.
    """

    def __init__(self, now_ms: int) -> None:
        self._configs: dict[str, TopicConfig] = {}
        self.get = self._configs.get
        self.version = DataVersion(timestamp=now_ms)

    def put(self, config: TopicConfig, now_ms: int) -> bool:
        """Create a topic, or replace its configuration.

        Args:
            config: the new configuration.
            now_ms: the wall clock, in milliseconds since 1970.

        Returns:
            False if nothing has changed.
        """
        if self._configs.get(config.topic_name) == config:
            return False
        self._configs[config.topic_name] = config
        self.renew(now_ms)
        return True

    def renew(self, now_ms: int) -> None:
        """Change the version, so that whoever compares versions reads the table anew."""
        self.version = DataVersion(timestamp=now_ms, counter=self.version.counter + 1)

    def all(self) -> dict[str, TopicConfig]:
        """All topics by name; a copy."""
        return dict(self._configs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._configs)

    def __len__(self) -> int:
        return len(self._configs)
