"""A simulated broker in virtual time, and the requests that tests send it as plain fields."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from broker_sim.cluster import Cluster
from broker_sim.worlds.runner import run_virtual
from rocketmq_aio.codes import RequestCode
from rocketmq_aio.environment import Environment
from rocketmq_aio.wire.frame import RemotingCommand
from tests.support.raw_client import RawClient

__all__ = ["UNIQUE_ID", "Broker", "pull_fields", "send_fields", "with_broker"]

UNIQUE_ID = "C00002022EC44E0E2F2A778EA78C0000"


def send_fields(**changes: Any) -> dict[str, Any]:
    """The ext fields of a send as the Java client writes them; None leaves a field out."""
    fields: dict[str, Any] = {
        "a": "group", "b": "T", "c": "TBW102", "d": "4", "e": "2", "f": "0", "g": "1795497037711", "h": "0",
        "i": f"UNIQ_KEY\x01{UNIQUE_ID}\x02WAIT\x01true\x02", "j": "0", "k": "false", "m": "false", "n": "broker-a",
    }  # fmt: skip
    return fields | changes


def pull_fields(**changes: Any) -> dict[str, Any]:
    """The ext fields of a pull without waiting."""
    fields: dict[str, Any] = {
        "consumerGroup": "group", "topic": "T", "queueId": "2", "queueOffset": "0", "maxMsgNums": "32", "sysFlag": "4",
        "commitOffset": "0", "suspendTimeoutMillis": "0", "subscription": "*", "subVersion": "0",
        "expressionType": "TAG",
    }  # fmt: skip
    return fields | changes


class Broker:
    """A cluster, and one connection to its first broker."""

    def __init__(self, cluster: Cluster, client: RawClient) -> None:
        self.cluster = cluster
        self.client = client
        self.call = client.call

    async def send(
        self, body: bytes = b"hello", *, code: int = RequestCode.SEND_MESSAGE_V2, **changes: Any
    ) -> RemotingCommand:
        """Send one message."""
        return await self.call(code, send_fields(**changes), body)

    async def pull(self, *, code: int = RequestCode.PULL_MESSAGE, **changes: Any) -> RemotingCommand:
        """Pull."""
        return await self.call(code, pull_fields(**changes))


def with_broker(main: Callable[[Broker], Awaitable[None]], *, seed: int = 1, **options: Any) -> None:
    """Run `main` with a cluster of one broker with a topic T of 4 queues, in virtual time."""

    async def run(environment: Environment) -> None:
        async with Cluster(environment=environment, **({"topics": {"T": 4}} | options)) as cluster:
            (address,) = list(cluster.broker_addresses().values())[:1]
            async with RawClient(environment, address) as client:
                await main(Broker(cluster, client))

    run_virtual(run, seed=seed)
