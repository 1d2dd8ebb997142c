"""Our producer against Apache's own name servers and brokers: the scenarios of the producer suite, and ten thousand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from rocketmq_aio.environment import Environment
from rocketmq_aio.wire.stored import decode_many
from tests.interop import remoting
from tests.interop.rocketmq import RealCluster
from tests.support.producer_suite import SCENARIOS, Stored, Target, send_in_flight

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
COUNT, IN_FLIGHT = 10_000, 512
READ_TIMEOUT = 30.0


class RealTarget:
    """A real cluster, read with requests that are not of our making."""

    environment: Environment | None = None

    def __init__(self, cluster: RealCluster, prefix: str) -> None:
        self.namesrv = cluster.namesrv
        self.prefix = prefix
        # 4.9.7 obeys it and does not keep it.
        self.not_stored = frozenset(("WAIT",)) if cluster.version.startswith("4.") else frozenset()
        self._cluster = cluster

    async def create_topic(self, name: str, queues: int) -> None:
        """Create a topic on the broker."""
        await asyncio.to_thread(self._cluster.create_topic, name, queues)

    async def read_back(self, topic: str, count: int) -> Stored:
        """Pull a topic, when its broker shows so many messages."""
        queues = await asyncio.to_thread(
            lambda: remoting.read_topic(self.namesrv, topic, count, timeout=READ_TIMEOUT)
        )
        return {queue: decode_many(records) for queue, records in queues.items()}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("loop", LOOPS)
def test_scenario(cluster: RealCluster, loop: str, scenario: Callable[[Target], Awaitable[None]]) -> None:
    """The scenario holds against a real broker."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scenario(RealTarget(cluster, f"Suite-{loop}-")))  # type: ignore[arg-type]


@pytest.mark.parametrize("loop", LOOPS)
def test_ten_thousand_messages(cluster: RealCluster, loop: str, capsys: pytest.CaptureFixture[str]) -> None:
    """512 in flight: every message is acknowledged, and is stored once, where and as its result says."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        elapsed = runner.run(send_in_flight(RealTarget(cluster, f"Many-{loop}-"), "TenThousand", COUNT, IN_FLIGHT))
    with capsys.disabled():
        print(
            f"\nRocketMQ {cluster.version}, {loop}: {COUNT:,} messages, {IN_FLIGHT} in flight, "
            f"{elapsed:.2f} s, {COUNT / elapsed:,.0f} a second"
        )
