"""A file of injections for a running cluster, which is read again when it changes.

New rules replace the old ones in one step. A file that cannot be used changes nothing: what held goes on to hold.

Source: none in Java.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from broker_sim.cluster import Cluster
from broker_sim.handles import Injection
from broker_sim.rules_file import FileRule, parse_rules
from rocketmq_aio.errors import ConfigError

__all__ = ["RulesFile", "RulesListener"]

#: Seconds between two looks at the file.
INTERVAL = 0.25


class RulesListener(Protocol):
    """Who is told of changes."""

    def rules(self, count: int) -> None:
        """So many injections hold from now on."""

    def rules_failed(self, error: str) -> None:
        """The file has changed and cannot be used."""


class RulesFile:
    """The injections of a file. Making one reads the file.

    Args:
        cluster: what they are for.
        path: the file.
        listener: told of changes.

    Raises:
        ConfigError: the file cannot be read or used; the text says which line.
    """

    def __init__(self, cluster: Cluster, path: str, listener: RulesListener) -> None:
        self._cluster = cluster
        self._path = Path(path)
        self._listener = listener
        self._installed: list[Injection] = []
        self._seen = self._look()
        self._rules = self._read()

    def install(self) -> int:
        """Put what was read in the place of what held before.

        Returns:
            How many injections hold now.

        Raises:
            ConfigError: one cannot be installed; nothing has changed.
            StateError: the cluster is not open.
        """
        new: list[Injection] = []
        for rule in self._rules:
            try:
                new.append(self._cluster.inject(rule.requests, rule.verdict, **rule.options))
            except ConfigError as error:
                for injection in new:
                    injection.remove()
                raise ConfigError(f"{self._path}, line {rule.line}: {error.text}", hint=error.hint) from error
        for injection in self._installed:
            injection.remove()
        self._installed = new
        return len(new)

    async def watch(self) -> None:
        """Follow the file's changes, until it is cancelled."""
        before = self._seen
        while True:
            await asyncio.sleep(INTERVAL)
            seen = self._look()
            settled, before = seen == before, seen
            if seen == self._seen or not settled:  # who writes in place empties the file first
                continue
            self._seen = seen
            try:
                self._rules = self._read()
                count = self.install()
            except ConfigError as error:
                self._listener.rules_failed(str(error))
            else:
                self._listener.rules(count)

    def _look(self) -> tuple[int, ...]:
        """What differs when the file has changed; nothing while there is none."""
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino

    def _read(self) -> list[FileRule]:
        if self._path.exists() and not self._path.is_file():  # reading a pipe would hold the loop
            raise ConfigError(f"{self._path} cannot be read: it is no regular file.")
        try:
            return parse_rules(self._path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self._path} cannot be read: {error}.") from error
        except ConfigError as error:
            raise ConfigError(f"{self._path}, {error.text}", hint=error.hint) from error
