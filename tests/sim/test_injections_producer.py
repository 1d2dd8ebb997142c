"""Injections and a producer: each fault has its error, within the deadline, and the error tells the truth."""

from __future__ import annotations

from typing import Any

import pytest

from broker_sim import Cluster, Corrupt, Delay, Disconnect, Drop, Duplicate, Reply, Status, Verdict, simulate
from rocketmq_aio import (
    SEND,
    Message,
    Producer,
    ResponseCode,
    SendConnectionError,
    SendStatus,
    SendTimeoutError,
    SystemBusyError,
)


@pytest.mark.parametrize(
    ("verdict", "kind", "maybe_stored", "count"),
    [
        (Reply(ResponseCode.SYSTEM_BUSY, remark="busy"), SystemBusyError, False, 0),
        (Drop(), SendTimeoutError, True, 0),
        (Drop("after"), SendTimeoutError, True, 1),
        (Delay(5, "after"), SendTimeoutError, True, 1),
        (Disconnect(), SendConnectionError, True, 0),
        (Disconnect("after"), SendConnectionError, True, 1),
        (Corrupt(lambda frame: b"HTTP/1.1 400 Bad Request\r\n\r\n"), SendConnectionError, True, 1),
    ],
    ids=str,
)
def test_producer_tells_the_truth(verdict: Verdict, kind: type[Exception], maybe_stored: bool, count: int) -> None:
    """Each fault has its error, within the deadline; `maybe_stored` never denies what is stored. Then all is well."""

    async def main(cluster: Cluster) -> None:
        clock = cluster.environment.clock
        async with Producer("g", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
            await producer.send(Message("T", b"first"))
            with cluster.inject(SEND, verdict):
                started = clock.monotonic()
                with pytest.raises(Exception) as caught:
                    await producer.send(Message("T", b"x"), send_timeout=3)
                assert clock.monotonic() - started <= 3.06
            error: Any = caught.value
            kinds = {type(error), type(error.__cause__)}
            assert any(issubclass(one, kind) for one in kinds), kinds
            assert error.maybe_stored is maybe_stored
            assert len(cluster.messages("T")) == 1 + count
            assert (await producer.send(Message("T", b"last"))).ok

    simulate.run(main, topics={"T": 1})


@simulate(topics={"T": 1})
async def test_producer_and_status_duplicate_and_delay(cluster: Cluster) -> None:
    """A status is a result; a second acknowledgement disturbs nobody; a delay is waited for."""
    async with Producer("g", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
        with cluster.inject(SEND, Status(SendStatus.FLUSH_SLAVE_TIMEOUT)):
            result = await producer.send(Message("T", b"x"))
        assert (result.status, result.queue_offset) == (SendStatus.FLUSH_SLAVE_TIMEOUT, 0)
        with cluster.inject(SEND, Duplicate()):
            assert (await producer.send(Message("T", b"x"))).queue_offset == 1
        with cluster.inject(SEND, Delay(2)):
            result = await producer.send(Message("T", b"x"))
        assert result.queue_offset == 3 and result.elapsed == pytest.approx(2, abs=0.1)
