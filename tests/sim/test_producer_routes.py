"""Routes and connections over time: brokers that leave, connections that die, name servers that say nothing.

All in virtual time: these things take minutes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker_sim import Cluster, simulate
from broker_sim.worlds.runner import run_virtual
from rocketmq_aio import ClientConfig, Message, NameServersUnavailableError, Producer, ProducerConfig, SendError
from rocketmq_aio.environment import Environment
from tests.support.servers import Server, broker, name_server, silent


@simulate(brokers=2, topics={"T": 2})
async def test_a_broker_that_left_is_not_pinged(cluster: Cluster) -> None:
    """After a broker has left the cluster and the route, readiness does not depend on it."""
    async with Producer("g", namesrv=cluster.namesrv, environment=cluster.environment) as producer:
        for _ in range(4):
            await producer.send(Message("T", b"x"))
        await producer.ping()
        await cluster.broker("broker-b").stop()
        await asyncio.sleep(61)
        assert {queue.broker_name for queue in await producer.queues("T")} == {"broker-a"}
        await producer.ping()
        assert (await producer.send(Message("T", b"x"))).ok


def test_a_dead_connection_is_replaced() -> None:
    """A peer that answers nothing any more and never closes is cut after two minutes; a new connection is made."""

    async def main(environment: Environment) -> None:
        alive = True
        answer = broker()

        def handle(connection: Any, request: Any) -> None:
            if alive or connection is not b.connections[0]:
                answer(connection, request)

        async with Server(environment, handle) as b:
            async with Server(environment, name_server({"broker-a": b.addr}, {"T": 1})) as ns:
                async with Producer("g", namesrv=ns.addr, environment=environment) as producer:
                    await producer.send(Message("T", b"x"))
                    alive = False
                    with pytest.raises(SendError):
                        await producer.send(Message("T", b"x"))
                    await asyncio.sleep(180)
                    assert (await producer.send(Message("T", b"x"))).ok
                    assert producer.stats().reconnects == 1 and len(b.connections) == 2

    run_virtual(main)


def test_a_silent_name_server_costs_its_share() -> None:
    """One of two name servers is silent: the look-up asks the other while there is time, and stays with it."""

    async def main(environment: Environment) -> None:
        async with Server(environment, broker()) as b, Server(environment, silent) as mute:
            async with Server(environment, name_server({"broker-a": b.addr}, {"T": 1, "U": 1})) as ns:
                for seed in range(4):
                    async with Producer("g", namesrv=[mute.addr, ns.addr], environment=environment) as producer:
                        started = environment.clock.monotonic()
                        assert (await producer.send(Message("T", b"x"))).ok, seed
                        assert environment.clock.monotonic() - started < 1.6
                        started = environment.clock.monotonic()
                        assert (await producer.send(Message("U", b"x"))).ok
                        assert environment.clock.monotonic() - started < 0.1
            assert 0 < len(mute.requests) < 4 + 1

    run_virtual(main)


def test_silent_name_servers_are_named_when_a_send_has_time_to() -> None:
    """With the default timeout the look-up ends first, and says what it heard; a refresh asks for one topic only."""

    async def main(environment: Environment) -> None:
        async with Server(environment, silent) as mute:
            async with Producer("g", namesrv=mute.addr, environment=environment) as producer:
                with pytest.raises(NameServersUnavailableError, match=r"did not answer within 2\.8 s"):
                    await producer.send(Message("T", b"x"))

    run_virtual(main)


@simulate(topics={"T": 2, "U": 2, "V": 2})
async def test_refresh_gives_up_when_no_name_server_answers(cluster: Cluster) -> None:
    """Three topics in use and no name server: one look-up fails a round, not one for each topic; routes stay."""
    config = ProducerConfig(client=ClientConfig(route_refresh=10.0))
    environment = cluster.environment
    async with Producer("g", namesrv=cluster.namesrv, environment=environment, config=config) as producer:
        for topic in "TUV":
            await producer.send(Message(topic, b"x"))
        lanes = dict(producer._lanes)
        await cluster.name_server(0).stop()
        await asyncio.sleep(35)
        assert producer._lanes == lanes
        await cluster.name_server(0).start()
        await asyncio.sleep(60)
        assert all(producer._lanes[topic] is lanes[topic] for topic in "TUV"), "an equal route replaces nothing"
        assert (await producer.send(Message("T", b"x"))).ok
