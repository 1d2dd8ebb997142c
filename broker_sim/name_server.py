"""A simulated name server: its tables and its handlers behind an endpoint.

Source: `NamesrvController.java`, `BrokerHousekeepingService.java` (5.3.3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from broker_sim.endpoint import Endpoint
from broker_sim.history import History
from broker_sim.inject import Rules
from broker_sim.requests.answer import ReplyForm
from broker_sim.requests.dispatch import NAME_SERVER_HANDLERS
from broker_sim.requests.registry import Registry
from broker_sim.session import ServerCore
from rocketmq_aio.environment import Environment, housekeeping_context
from rocketmq_aio.net.addresses import join_address
from rocketmq_aio.net.connection import Connection

__all__ = ["NameServer"]

logger = logging.getLogger("broker_sim")

#: Seconds between two looks for brokers that are silent.
SCAN_INTERVAL = 5.0


class NameServer:
    """One name server. It does not know the others.

    Args:
        name: for history and logs.
        host: the address to listen on.
        port: 0 takes a free one; from then on it keeps it.
        advertised_host: the host that clients are told.
        environment: clock and network.
        history: takes every exchange.
        started_at: when the cluster began, in seconds of the monotonic clock.
        rules: the cluster's injections.
        numbers: numbers for accepted connections.

    Attributes:
        registry: its tables; empty after each start.
    """

    def __init__(
        self,
        *,
        name: str,
        host: str,
        port: int,
        advertised_host: str,
        environment: Environment,
        history: History,
        started_at: float,
        rules: Rules,
        numbers: Iterator[int],
    ) -> None:
        self.name = name
        self.registry = Registry()
        self._host = host
        self._port = port
        self._advertised_host = advertised_host
        self._monotonic = environment.clock.monotonic
        self._scan_timer: asyncio.TimerHandle | None = None
        core = ServerCore(
            name=name, state=self.registry, handlers=NAME_SERVER_HANDLERS, form=ReplyForm(), clock=environment.clock,
            history=history, started_at=started_at, rules=rules, on_lost=self._lost,
        )  # fmt: skip
        self.endpoint = Endpoint(core=core, environment=environment, numbers=numbers)

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return join_address(self._advertised_host, self._port)

    @property
    def local_address(self) -> str:
        """`host:port` for the brokers beside it, which may not reach what clients are told."""
        return join_address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host), self._port)

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self.endpoint.listening

    async def start(self) -> None:
        """Begin to listen, with empty tables.

        Raises:
            OSError: it cannot, for example because the port is taken.
        """
        self.registry.clear()
        self._port = await self.endpoint.listen(self._host, self._port)
        self._scan_later()

    def abort(self) -> None:
        """Stop at once."""
        if self._scan_timer is not None:
            self._scan_timer.cancel()
            self._scan_timer = None
        self.endpoint.abort()

    async def wait_closed(self) -> None:
        """Wait, after `abort`, until no socket is left."""
        await self.endpoint.wait_closed()

    def _lost(self, connection: Connection) -> None:
        self.registry.connection_lost(connection)

    def _scan_later(self) -> None:
        self._scan_timer = asyncio.get_running_loop().call_later(
            SCAN_INTERVAL, self._scan, context=housekeeping_context()
        )

    def _scan(self) -> None:
        for connection in self.registry.expire(self._monotonic()):
            logger.info("%s drops a broker that is silent", self.name)
            connection.abort()
        self._scan_later()
