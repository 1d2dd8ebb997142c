"""What a user holds of servers and injections. Under `with` it is safe from any thread.

Source: none in Java.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from broker_sim.config import check_queue
from rocketmq_aio.errors import ClosedError, ForkedError
from rocketmq_aio.message import MessageExt

if TYPE_CHECKING:
    from broker_sim.broker import Broker
    from broker_sim.cluster import Cluster
    from broker_sim.inject import Rule
    from broker_sim.name_server import NameServer
    from broker_sim.servers import Servers
    from broker_sim.verdicts import Verdict

__all__ = ["BrokerHandle", "Done", "Injection", "NameServerHandle", "ServerHandle", "StoreView"]


class Done(Awaitable[None]):
    """Something that has happened already: awaiting it takes no time, and is not necessary."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


class StoreView:
    """What one broker has stored. Every method returns a snapshot."""

    def __init__(self, cluster: Cluster, broker: Broker) -> None:
        self._cluster = cluster
        self._broker = broker

    def topics(self) -> dict[str, int]:
        """Topic → number of queues to write to; the broker's own topics included."""
        return self._cluster._run(self._topics)

    def _topics(self) -> dict[str, int]:
        return {name: config.write_queue_nums for name, config in self._broker.state.topics.all().items()}

    def messages(self, topic: str, queue: int | None = None) -> list[MessageExt]:
        """Messages by queue and offset; none of an unknown topic or queue.

        Args:
            topic: the topic's name.
            queue: one queue only; None for all.
        """
        check_queue("BrokerHandle.store.messages", topic, queue)
        return self._cluster._run(self._broker.messages, topic, queue)

    def max_offset(self, topic: str, queue: int) -> int:
        """The offset that the next message of the queue gets, which is how many it had; 0 for an unknown queue."""
        check_queue("BrokerHandle.store.max_offset", topic, queue)
        return self._cluster._run(self._broker.state.store.max_offset, topic, queue)

    @property
    def physical_offset(self) -> int:
        """Bytes of all records stored so far."""
        return self._cluster._run(lambda: self._broker.state.store.physical_offset)


class ServerHandle:
    """One server of a cluster."""

    def __init__(self, cluster: Cluster, server: Broker | NameServer) -> None:
        self._cluster = cluster
        self._server = server

    @property
    def name(self) -> str:
        """The server's name."""
        return self._server.name

    @property
    def address(self) -> str:
        """`host:port` for clients. It stays the same from one start to the next."""
        return self._cluster._run(lambda: self._server.address)

    @property
    def running(self) -> bool:
        """Whether it accepts connections."""
        return self._cluster._run(lambda: self._server.running)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class BrokerHandle(ServerHandle):
    """One broker of a cluster.

    Attributes:
        store: what it has stored; readable also while it is stopped.
    """

    def __init__(self, cluster: Cluster, servers: Servers, broker: Broker) -> None:
        super().__init__(cluster, broker)
        self._servers = servers
        self._broker = broker
        self.store = StoreView(cluster, broker)

    def stop(self) -> Awaitable[None]:
        """Stop it as an operator does: it unregisters, and closes its connections. What it has stored stays.

        To be awaited; under a plain `with` it is done when it returns. Stopping what is stopped does nothing.

        Raises:
            StateError: the cluster is not open.
        """
        return self._cluster._run_blocking(self._servers.stop_broker, self._broker)

    def start(self) -> Awaitable[None]:
        """Start it again, on the same port; it is registered when this is done. Starting what runs does nothing.

        Name servers elsewhere (`BrokerConfig.namesrv`) that are silent are waited for three seconds. Who is cancelled
        here leaves it stopped.
        To be awaited; under a plain `with` it is done when it returns.

        Raises:
            StateError: the cluster is not open, or the port has been taken meanwhile.
        """
        return self._cluster._run_blocking(self._servers.start_broker, self._broker)


class NameServerHandle(ServerHandle):
    """One name server of a cluster."""

    def __init__(self, cluster: Cluster, servers: Servers, name_server: NameServer) -> None:
        super().__init__(cluster, name_server)
        self._servers = servers
        self._name_server = name_server

    def stop(self) -> Awaitable[None]:
        """Stop it: its connections are closed and its tables lost.

        To be awaited; under a plain `with` it is done when it returns. Stopping what is stopped does nothing.

        Raises:
            StateError: the cluster is not open.
        """
        return self._cluster._run_blocking(self._servers.stop_name_server, self._name_server)

    def start(self) -> Awaitable[None]:
        """Start it again, on the same port.

        The running brokers have registered with it when this is done. Real brokers take up to 30 seconds.
        To be awaited; under a plain `with` it is done when it returns. Starting what runs does nothing.

        Raises:
            StateError: the cluster is not open, or the port has been taken meanwhile.
        """
        return self._cluster._run_blocking(self._servers.start_name_server, self._name_server)


class Injection:
    """Something that a cluster does wrong on purpose, from `Cluster.inject` until it is removed.

    With `with` it is removed at the end of the block.
    """

    def __init__(self, cluster: Cluster, servers: Servers, rule: Rule) -> None:
        self._cluster = cluster
        self._servers = servers
        self._rule = rule

    @property
    def verdict(self) -> Verdict:
        """What becomes of the requests."""
        return self._rule.verdict

    @property
    def hits(self) -> int:
        """How often it has applied. Readable also when it is removed."""
        return self._rule.hits

    def remove(self) -> None:
        """Remove it; what it has delayed stays delayed. Once more, or with the cluster closed, that does nothing.

        Raises:
            WrongLoopError: the cluster belongs to the thread of its loop, and this is another.
        """
        try:
            self._cluster._run(self._servers.rules.remove, self._rule)
        except (ClosedError, ForkedError):
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<Injection {self._rule.verdict!r}, {self._rule.hits} hits>"
