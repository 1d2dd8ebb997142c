"""The pool: one connection for an address, made once however many ask, with pauses after failures."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from broker_sim.worlds.environments import virtual
from rocketmq_aio.errors import ClosedError, ConfigError, ConnectError, ConnectionLostError
from rocketmq_aio.lifecycle import Service, State
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.net.pool import Pool, refuse_request
from rocketmq_aio.wire.incoming import Reply
from tests.unit.net.fakes import TEMPLATE, FakeTransport, reply_frame, turns, virtual_time

ADDR = "10.0.0.1:10911"


class ScriptedNetwork:
    """Each connect has the next outcome: an error, a function of the protocol, or None, which is success."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.targets: list[tuple[str, int]] = []
        self.transports: list[FakeTransport] = []
        self.seconds = 0.01

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Any:
        """Take a while, then do as the script says."""
        self.targets.append((host, port))
        outcome = self.outcomes.pop(0) if self.outcomes else None
        await asyncio.sleep(self.seconds)
        if isinstance(outcome, BaseException):
            raise outcome
        protocol, transport = factory(), FakeTransport()
        self.transports.append(transport)
        protocol.connection_made(transport)
        if outcome is not None:
            outcome(protocol)
        return transport, protocol


def make_pool(network: ScriptedNetwork, **options: Any) -> tuple[Pool, Service]:
    """A pool in the running virtual loop, and the service that owns its tasks."""
    environment = msgspec.structs.replace(
        virtual(asyncio.get_running_loop()), network=network, entropy=lambda name: random.Random(f"7/{name}")
    )
    service = Service("Producer 'test'")
    service.begin()
    service.state = State.RUNNING
    settings: dict[str, Any] = {"connect_timeout": 3.0, "reconnect_backoff": (0.05, 2.0), "address_map": None}
    return Pool(environment=environment, spawn=service.spawn, **(settings | options)), service


def refused() -> ConnectionRefusedError:
    """What asyncio raises when nobody listens."""
    return ConnectionRefusedError(111, "Connect call failed")


# --- making connections


@virtual_time
async def test_a_connection_is_made_once_and_kept() -> None:
    """The first caller makes it, who comes later finds it; the owner is told once."""
    network = ScriptedNetwork()
    pool, _ = make_pool(network)
    told: list[tuple[str, Connection]] = []
    pool.on_connected = lambda addr, connection: told.append((addr, connection))
    assert pool.get(ADDR) is None
    connection = await pool.connect(ADDR, "broker-a")
    assert pool.get(ADDR) is connection is await pool.connect(ADDR, "broker-a")
    assert told == [(ADDR, connection)]
    assert network.targets == [("10.0.0.1", 10911)]
    assert (connection.name, connection.address) == (f"broker-a at {ADDR}", ADDR)
    assert pool.reconnects == 0


@virtual_time
async def test_callers_share_a_connect_and_one_may_leave() -> None:
    """The one who started it is cancelled; the others get the connection all the same."""
    network = ScriptedNetwork()
    pool, _ = make_pool(network)
    callers = [asyncio.ensure_future(pool.connect(ADDR, "broker-a")) for _ in range(3)]
    await turns(2)
    callers[0].cancel()
    await asyncio.wait(callers)
    assert callers[0].cancelled()
    assert callers[1].result() is callers[2].result() is pool.get(ADDR)
    assert len(network.targets) == 1


@virtual_time
async def test_a_connect_that_nobody_waits_for_is_not_lost() -> None:
    """All callers leave; the connection is there for the next one, and its failure would be remembered."""
    network = ScriptedNetwork(None, refused())
    pool, _ = make_pool(network)
    for addr in (ADDR, "10.0.0.2:1"):
        caller = asyncio.ensure_future(pool.connect(addr, "broker"))
        await turns(2)
        caller.cancel()
        await asyncio.sleep(0.011)
    assert pool.get(ADDR) is not None
    with pytest.raises(ConnectError):
        await pool.connect("10.0.0.2:1", "broker")
    assert len(network.targets) == 2


@virtual_time
async def test_addresses_are_independent() -> None:
    """One that takes long holds up no other."""
    network = ScriptedNetwork(refused())
    pool, _ = make_pool(network)
    first = asyncio.ensure_future(pool.connect(ADDR, "broker-a"))
    second = asyncio.ensure_future(pool.connect("10.0.0.2:10911", "broker-b"))
    await asyncio.wait([first, second])
    assert isinstance(first.exception(), ConnectError)
    assert second.result() is pool.get("10.0.0.2:10911")


# --- failures


@virtual_time
async def test_all_who_share_a_failing_connect_get_errors_of_their_own() -> None:
    """One attempt, and an error object for each."""
    network = ScriptedNetwork(refused())
    pool, _ = make_pool(network)
    callers = [asyncio.ensure_future(pool.connect(ADDR, "broker-a")) for _ in range(3)]
    await asyncio.wait(callers)
    errors = [caller.exception() for caller in callers]
    assert len({id(error) for error in errors}) == 3 and {type(error) for error in errors} == {ConnectError}
    assert len({id(error.__cause__) for error in errors}) == 1
    assert isinstance(errors[0].__cause__.__cause__, ConnectionRefusedError)
    assert len(network.targets) == 1


@virtual_time
async def test_pauses_double_up_to_the_longest_with_jitter() -> None:
    """Within a pause the stored failure is raised at once, as a new error from the old; then it is tried again."""
    network = ScriptedNetwork(*(refused() for _ in range(9)))
    network.seconds = 0.0
    pool, _ = make_pool(network)
    dice = random.Random("7/pool")
    for attempt, pause in enumerate([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0], 1):
        with pytest.raises(ConnectError):
            await pool.connect(ADDR, "broker-a")
        assert len(network.targets) == attempt
        jittered = pause * (0.5 + dice.random() / 2)
        assert pause / 2 <= jittered <= pause
        await asyncio.sleep(jittered - 1e-6)
        with pytest.raises(ConnectError) as first:
            await pool.connect(ADDR, "broker-a")
        with pytest.raises(ConnectError) as second:
            await pool.connect(ADDR, "broker-a")
        assert len(network.targets) == attempt
        assert first.value is not second.value
        assert first.value.__cause__ is second.value.__cause__
        assert isinstance(first.value.__cause__, ConnectError)
        assert str(first.value) == str(first.value.__cause__)
        await asyncio.sleep(2e-6)
    await pool.connect(ADDR, "broker-a")
    network.outcomes = [refused()]
    pool.connections[ADDR].abort()
    with pytest.raises(ConnectError):
        await pool.connect(ADDR, "broker-a")
    await asyncio.sleep(0.05)  # after a success the first pause is the first one again
    await pool.connect(ADDR, "broker-a")


@virtual_time
async def test_a_failure_names_everything_that_helps() -> None:
    """The broker, the address that was tried, the one that was registered, the reason, and the map."""
    pool, _ = make_pool(ScriptedNetwork(refused(), refused()), address_map={ADDR: "localhost:30911"})
    with pytest.raises(ConnectError) as caught:
        await pool.connect(ADDR, "broker-a")
    assert caught.value.text == (
        f"Cannot connect to broker-a at localhost:30911 (registered as {ADDR}): [Errno 111] Connect call failed."
    )
    assert f"ClientConfig(address_map={{'{ADDR}': 'host:port'}})" in caught.value.hint
    assert caught.value.address == ADDR and caught.value.retryable and not caught.value.maybe_stored
    with pytest.raises(ConnectError) as caught:
        await pool.connect("10.0.0.2:1", "broker-b")
    assert caught.value.text == "Cannot connect to broker-b at 10.0.0.2:1: [Errno 111] Connect call failed."


@virtual_time
@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "[Errno -2] Name or service not known."),
        (UnicodeError("label too long"), "label too long."),
        (ValueError("embedded null character"), "embedded null character."),
        (OSError(), "OSError."),
        (OSError("Multiple exceptions: a, b."), "Multiple exceptions: a, b."),
        (Connection.abort, "it closed the connection at once."),
        (TimeoutError(110, "Connection timed out"), "no answer within 3 s."),
    ],
    ids=["unknown name", "no name", "null character", "without words", "full stop", "closed", "kernel's timeout"],
)
async def test_whatever_stands_in_the_way_is_a_connect_error(outcome: Any, words: str) -> None:
    """An address comes from a broker's registration: no text in it may be a crash."""
    pool, service = make_pool(ScriptedNetwork(outcome))
    with pytest.raises(ConnectError) as caught:
        await pool.connect(ADDR, "broker-a")
    assert caught.value.text == f"Cannot connect to broker-a at {ADDR}: {words}"
    assert service.state is State.RUNNING and pool.get(ADDR) is None


@virtual_time
@pytest.mark.parametrize(
    "addr", ["", "nonsense", "h:0", "::1", pytest.param("h:" + "9" * 5000, id="h:9..."), "http://h:80"]
)
async def test_a_registered_address_that_is_none_is_a_connect_error(addr: str) -> None:
    """It is not even tried, and the words say what is wrong with it."""
    network = ScriptedNetwork()
    pool, service = make_pool(network)
    with pytest.raises(ConnectError, match="It looks like") as caught:
        await pool.connect(addr, "broker-a")
    assert isinstance(caught.value.__cause__.__cause__, ConfigError)
    assert ".." not in caught.value.text
    assert network.targets == [] and service.state is State.RUNNING


@virtual_time
async def test_a_connect_ends_with_its_timeout() -> None:
    """Silence is a failure after `connect_timeout`, and is remembered like any other."""
    network = ScriptedNetwork()
    network.seconds = 3600
    pool, _ = make_pool(network, connect_timeout=0.5)
    started = asyncio.get_running_loop().time()
    with pytest.raises(ConnectError, match=r"broker-a at .*: no answer within 0.5 s\."):
        await pool.connect(ADDR, "broker-a")
    assert asyncio.get_running_loop().time() - started == pytest.approx(0.5)
    with pytest.raises(ConnectError):
        await pool.connect(ADDR, "broker-a")
    assert len(network.targets) == 1


# --- the address map


@virtual_time
@pytest.mark.parametrize("kind", ["mapping", "function"])
async def test_an_address_map_leads_to_where_a_broker_can_be_reached(kind: str) -> None:
    """Connections stay filed under what the broker registered; addresses that the map lacks are used as they are."""
    table = {ADDR: "localhost:30911"}
    network = ScriptedNetwork()
    pool, _ = make_pool(network, address_map=table if kind == "mapping" else lambda addr: table.get(addr, addr))
    connection = await pool.connect(ADDR, "broker-a")
    other = await pool.connect("10.0.0.2:1", "broker-b")
    assert network.targets == [("localhost", 30911), ("10.0.0.2", 1)]
    assert pool.get(ADDR) is connection and pool.get("localhost:30911") is None
    assert connection.name == f"broker-a at localhost:30911 (registered as {ADDR})"
    assert connection.address == "localhost:30911" and other.name == "broker-b at 10.0.0.2:1"


@virtual_time
async def test_an_address_map_that_gives_no_text_is_told_so() -> None:
    """`address_map=table.get` gives None for what the table lacks: an error that says so, not a crash."""
    network = ScriptedNetwork()
    pool, service = make_pool(network, address_map={}.get)
    with pytest.raises(ConnectError, match="address_map makes None of it, which is no str"):
        await pool.connect(ADDR, "broker-a")
    assert network.targets == [] and service.state is State.RUNNING


@virtual_time
async def test_a_peer_that_does_not_read_gets_no_refusals() -> None:
    """Answers to its requests would fill the memory; they are dropped while its socket is full."""
    network = ScriptedNetwork()
    pool, _ = make_pool(network)
    connection = await pool.connect(ADDR, "broker-a")
    connection.pause_writing()
    written: list[bytes] = []
    connection.write = written.append  # type: ignore[method-assign]
    refuse_request(connection, Reply(code=40, opaque=7))
    assert written == []
    connection.resume_writing()
    refuse_request(connection, Reply(code=40, opaque=7))
    assert len(written) == 1


# --- ends


@virtual_time
async def test_closing_while_connecting_is_told_to_all_who_wait() -> None:
    """They were not cancelled themselves; and nothing is connected afterwards."""
    network = ScriptedNetwork()
    pool, service = make_pool(network)
    callers = [asyncio.ensure_future(pool.connect(ADDR, "broker-a")) for _ in range(2)]
    await turns(2)
    service.cancel_tasks()
    await asyncio.wait(callers)
    for caller in callers:
        assert isinstance(caller.exception(), ClosedError)
        assert str(caller.exception()) == f"Closed while waiting for a connection to broker-a at {ADDR}."
    await asyncio.sleep(1)
    assert network.transports == [] and pool.connections == {}


@virtual_time
async def test_a_closed_client_connects_to_nobody() -> None:
    """A send that was waiting for the socket when everything closed must not open it again."""
    network = ScriptedNetwork()
    pool, service = make_pool(network)
    service.state = State.CLOSED
    with pytest.raises(ClosedError):
        await pool.connect(ADDR, "broker-a")
    await asyncio.sleep(1)
    assert network.targets == [] and service.task_count == 0


@virtual_time
async def test_a_lost_connection_is_forgotten_and_made_anew() -> None:
    """The owner is told, the next caller reconnects, and what the old one counted is kept."""
    network = ScriptedNetwork()
    pool, _ = make_pool(network)
    lost: list[Connection] = []
    pool.on_lost = lost.append
    first = await pool.connect(ADDR, "broker-a")
    other = await pool.connect("10.0.0.2:1", "broker-b")
    for connection in (first, other):
        connection.data_received(reply_frame(1))
    assert pool.late_answers == 2
    first._scan.stalls = 3
    first.connection_lost(None)
    assert lost == [first] and pool.get(ADDR) is None and pool.get("10.0.0.2:1") is other
    assert (pool.late_answers, pool.loop_stalls) == (2, 3)
    second = await pool.connect(ADDR, "broker-a")
    assert second is not first and pool.reconnects == 1
    first.connection_lost(None)
    assert pool.get(ADDR) is second


@virtual_time
async def test_abort_closes_all_and_waits_for_the_sockets() -> None:
    """What is pending fails with the reason; afterwards no socket is left."""
    network = ScriptedNetwork()
    pool, _ = make_pool(network)
    connections = [await pool.connect(addr, "broker") for addr in (ADDR, "10.0.0.2:1")]
    future = connections[0].request(TEMPLATE, (), b"", 1e9)
    pool.abort("the producer was closed")
    pool.abort("again")
    assert pool.connections == {}
    error = future.exception()
    words = "The connection to broker at 10.0.0.1:10911 was cut: the producer was closed."
    assert type(error) is ConnectionLostError and str(error) == words
    waiter = asyncio.ensure_future(pool.wait_lost())
    await turns(3)
    assert not waiter.done()
    connections[0].connection_lost(None)
    await turns(3)
    assert not waiter.done()
    connections[1].connection_lost(None)
    await waiter
    await pool.wait_lost()
    assert [transport.calls for transport in network.transports] == [["abort"], ["abort"]]


@virtual_time
async def test_an_address_map_that_raises_is_told_so() -> None:
    """The user's function raised: an error that says so, caused by it, and no crash of the client."""
    network = ScriptedNetwork()
    pool, service = make_pool(network, address_map=lambda addr: 1 // 0)
    with pytest.raises(ConnectError, match="address_map raised ZeroDivisionError") as caught:
        await pool.connect(ADDR, "broker-a")
    assert isinstance(caught.value.__cause__.__cause__, ZeroDivisionError)
    assert service.crash is None
