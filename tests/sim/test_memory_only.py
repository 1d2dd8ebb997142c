"""What connections in memory promise beyond TCP: resets, contexts, names, order of ports, time on the way."""

from __future__ import annotations

import asyncio
import contextvars
import errno
from collections.abc import Callable
from typing import Any

import pytest

from broker_sim.worlds.links import Latency
from broker_sim.worlds.memory import MemoryNetwork
from broker_sim.worlds.runner import run_virtual
from broker_sim.worlds.transport import HIGH_WATER_BYTES
from rocketmq_aio.environment import Environment, housekeeping, housekeeping_context
from tests.sim.peers import IN_MEMORY, WORLDS, Main, Pair, Peer, settle

in_memory = pytest.mark.parametrize("run", [WORLDS[name] for name in IN_MEMORY], ids=IN_MEMORY)


@in_memory
def test_abort_ends_both_ends(run: Callable[[Main], Any]) -> None:
    """The end that aborts is lost without an error, the other with a reset; what was under way still arrives."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment)
        pair.client.transport.write(b"last words")
        pair.client.transport.abort()
        pair.client.transport.abort()
        assert pair.client.transport.is_closing()
        assert pair.client.transport.get_write_buffer_size() == 0
        assert "lost" not in pair.client.events, "connection_lost comes with the next turn"
        assert await pair.client.lost() is None
        error = await pair.server.lost()
        assert isinstance(error, ConnectionResetError)
        assert pair.server.received == b"last words"
        assert pair.client.events.count("lost") == pair.server.events.count("lost") == 1
        assert environment.network.open_ends == 0  # type: ignore[attr-defined]

    run(main)


@in_memory
def test_a_reset_reaches_a_reader_that_pauses(run: Callable[[Main], Any]) -> None:
    """It does not wait for what lies unread, which is lost."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment)
        pair.server.transport.pause_reading()
        pair.client.transport.write(b"unread")
        pair.client.transport.abort()
        assert isinstance(await pair.server.lost(), ConnectionResetError)
        assert pair.server.received == b""

    run(main)


@in_memory
def test_writing_to_a_peer_that_is_gone_is_answered_by_a_reset(run: Callable[[Main], Any]) -> None:
    """An end that ignores the end of file and writes on loses the connection."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment, server=Peer(keep_open=True))
        pair.client.transport.close()
        await pair.server.until(lambda: "eof" in pair.server.events)
        assert await pair.client.lost() is None
        pair.server.transport.write(b"anybody?")
        assert isinstance(await pair.server.lost(), ConnectionResetError)

    run(main)


@in_memory
def test_closing_frees_a_writer_that_waits(run: Callable[[Main], Any]) -> None:
    """A reader that closes without having read takes nothing more; the writer's `close` ends."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment, client=Peer(keep_open=True))
        pair.server.transport.pause_reading()
        pair.client.transport.write(b"x" * (HIGH_WATER_BYTES + 1))
        assert pair.client.events[-1] == "pause"
        pair.client.transport.close()
        await settle()
        assert "lost" not in pair.client.events
        pair.server.transport.close()
        assert await pair.client.lost() is None
        assert await pair.server.lost() is None
        assert pair.server.received == b""

    run(main)


@in_memory
def test_what_lies_unread_keeps_its_order(run: Callable[[Main], Any]) -> None:
    """Pausing again and again, in the middle of what lies there, loses and mixes nothing."""

    async def main(environment: Environment) -> None:
        def pause(peer: Peer, _data: bytes) -> None:
            peer.transport.pause_reading()
            asyncio.get_running_loop().call_soon(peer.transport.resume_reading)

        pair = await Pair.open(environment, server=Peer(on_data=pause))
        for number in range(100):
            pair.client.transport.write(f"{number},".encode())
            if number % 7 == 0:
                await asyncio.sleep(0)
        pair.client.transport.close()
        assert await pair.server.lost() is None
        assert pair.server.received.decode() == "".join(f"{number}," for number in range(100))

    run(main)


@in_memory
def test_limits_of_the_buffer_can_be_set(run: Callable[[Main], Any]) -> None:
    """As in asyncio: a quarter is the default of the low limit, and a limit below the buffer pauses at once."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment)
        transport = pair.client.transport
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        transport.set_write_buffer_limits(high=1_000)
        assert transport.get_write_buffer_limits() == (250, 1_000)
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.write(b"x" * 500)
        assert pair.client.events[-1] == "made"
        transport.set_write_buffer_limits(high=499)
        assert pair.client.events[-1] == "pause"
        transport.set_write_buffer_limits()
        await pair.client.until(lambda: "resume" in pair.client.events)
        await pair.end()

    run(main)


@in_memory
def test_a_protocol_that_fails_loses_its_connection(run: Callable[[Main], Any]) -> None:
    """The error goes to the loop's exception handler and to `connection_lost`; the peer gets a reset."""

    async def main(environment: Environment) -> None:
        reported: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

        def fail(_peer: Peer, _data: bytes) -> None:
            raise LookupError("mine")

        pair = await Pair.open(environment, server=Peer(on_data=fail))
        pair.client.transport.write(b"x")
        assert isinstance(await pair.client.lost(), ConnectionResetError)
        assert isinstance(await pair.server.lost(), LookupError)
        assert [str(error) for error in reported] == ["mine"]

    run(main)


@in_memory
@pytest.mark.parametrize("turns", range(8))
def test_cancelling_a_connect_leaves_nothing(run: Callable[[Main], Any], turns: int) -> None:
    """At whatever moment connecting is cancelled, no end of a connection remains."""

    async def main(environment: Environment) -> None:
        servers: list[Peer] = []
        client = Peer()

        def accept() -> Peer:
            servers.append(Peer())
            return servers[-1]

        listener = await environment.network.listen(accept, "broker-a", 10911)

        async def connect() -> asyncio.BaseTransport:
            return (await environment.network.connect(lambda: client, "broker-a", 10911))[0]

        task = asyncio.create_task(connect())
        for _ in range(turns):
            # A sleep lets virtual time pass, a turn does not; in real time a turn is all that a way takes.
            await asyncio.sleep(0.0001 if run is WORLDS["virtual"] else 0)
        task.cancel()
        try:
            (await task).abort()
        except asyncio.CancelledError:
            assert client.events == []
        for server in servers:
            assert isinstance(await server.lost(), ConnectionResetError)
        if client.events:
            await client.lost()
        # Whoever is still on the way arrives before one who starts now.
        probe, _ = await environment.network.connect(Peer, "broker-a", 10911)
        probe.abort()
        await servers[-1].lost()
        assert environment.network.open_ends == 0  # type: ignore[attr-defined]
        listener.close()

    run(main)


@in_memory
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_factory_that_fails_leaves_nothing(run: Callable[[Main], Any], side: str) -> None:
    """An error of the client's factory comes out of `connect`, one of the server's is reported; the peer is reset."""

    async def main(environment: Environment) -> None:
        reported: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        other = Peer()

        def fail() -> Peer:
            raise LookupError("mine")

        listener = await environment.network.listen(fail if side == "server" else lambda: other, "h", 1)
        if side == "client":
            with pytest.raises(LookupError, match="mine"):
                await environment.network.connect(fail, "h", 1)
            assert reported == []
        else:
            await environment.network.connect(lambda: other, "h", 1)
            assert [str(error) for error in reported] == ["mine"]
        assert isinstance(await other.lost(), ConnectionResetError)
        listener.close()

    run(main)


@in_memory
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_connection_made_that_fails_loses_its_connection(run: Callable[[Main], Any], side: str) -> None:
    """The failing end is lost, the other gets a reset; the client's error comes out of `connect`."""

    async def main(environment: Environment) -> None:
        reported: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

        class Failing(Peer):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                raise LookupError("mine")

        failing, other = Failing(), Peer()
        client, server = (failing, other) if side == "client" else (other, failing)
        await environment.network.listen(lambda: server, "h", 1)
        if side == "client":
            with pytest.raises(LookupError, match="mine"):
                await environment.network.connect(lambda: client, "h", 1)
        else:
            await environment.network.connect(lambda: client, "h", 1)
            assert [str(error) for error in reported] == ["mine"]
        assert await failing.lost() is None
        assert isinstance(await other.lost(), ConnectionResetError)
        assert environment.network.open_ends == 0  # type: ignore[attr-defined]

    run(main)


@in_memory
def test_the_protocol_can_be_replaced(run: Callable[[Main], Any]) -> None:
    """What arrives later goes to the new protocol; one that is not of asyncio's plain kind is refused."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment)
        transport = pair.server.transport
        assert transport.get_protocol() is pair.server
        second = Peer()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        with pytest.raises(TypeError, match=r"BufferedProtocol is not an asyncio\.Protocol"):
            transport.set_protocol(asyncio.BufferedProtocol())
        pair.client.transport.write(b"x")
        pair.client.transport.close()
        assert await second.lost() is None
        assert (second.received, pair.server.received) == (b"x", b"")

    run(main)


@in_memory
def test_what_a_server_writes_first_comes_after_connection_made(run: Callable[[Main], Any]) -> None:
    """A server that greets and hangs up at once is heard by a client that has just connected."""

    async def main(environment: Environment) -> None:
        class Greeter(Peer):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                self.transport.write(b"hello")
                self.transport.abort()

        client = Peer()
        listener = await environment.network.listen(Greeter, "h", 1)
        await environment.network.connect(lambda: client, "h", 1)
        assert isinstance(await client.lost(), ConnectionResetError)
        assert client.events == ["made", "data", "lost"]
        assert client.received == b"hello"
        listener.close()

    run(main)


@in_memory
def test_hosts_are_any_text(run: Callable[[Main], Any]) -> None:
    """Who listens under a name is found under it; `localhost` is 127.0.0.1; a wildcard listens under all names."""

    async def main(environment: Environment) -> None:
        network = environment.network
        with pytest.raises(ConnectionRefusedError):
            await network.connect(Peer, "broker-a", 7)
        listeners = [await network.listen(Peer, host, 7) for host in ("broker-a", "localhost", "0.0.0.0")]
        for host, shown in (("broker-a", "broker-a"), ("127.0.0.1", "127.0.0.1"), ("broker-b", "broker-b")):
            transport, _ = await network.connect(Peer, host, 7)
            assert transport.get_extra_info("peername") == (shown, 7)
            assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
            transport.close()
        listeners[2].close()
        with pytest.raises(ConnectionRefusedError):
            await network.connect(Peer, "broker-b", 7)

    run(main)


@in_memory
def test_ports_are_handed_out_in_order(run: Callable[[Main], Any]) -> None:
    """In every run the same ports; a port is given again only after all others."""

    async def main(environment: Environment) -> list[int]:
        listeners = [await environment.network.listen(Peer, host, 0) for host in ("a", "b", "a")]
        listeners[2].close()
        listeners.append(await environment.network.listen(Peer, "a", 0))
        transports = [(await environment.network.connect(Peer, "a", listeners[0].port))[0] for _ in range(3)]
        ports = [listener.port for listener in listeners]
        assert ports == list(range(ports[0], ports[0] + 4))
        clients = [transport.get_extra_info("sockname")[1] for transport in transports]
        assert clients == list(range(clients[0], clients[0] + 3))
        return ports + clients

    assert run(main) == run(main)


@in_memory
def test_ports_of_clients_are_given_back(run: Callable[[Main], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A port is free when its connection is lost, refused or cancelled; without a free one nobody connects."""
    monkeypatch.setattr("broker_sim.worlds.memory.CLIENT_PORTS", range(40_000, 40_003))

    async def main(environment: Environment) -> None:
        network = environment.network
        listener = await network.listen(Peer, "h", 1)
        clients = [Peer() for _ in range(3)]
        for client in clients:
            await network.connect(lambda client=client: client, "h", 1)
        with pytest.raises(OSError) as caught:
            await network.connect(Peer, "h", 1)
        assert caught.value.errno == errno.EADDRNOTAVAIL
        clients[1].transport.abort()
        await clients[1].lost()
        for _ in range(5):
            with pytest.raises(ConnectionRefusedError):
                await network.connect(Peer, "nobody", 1)
            attempt = asyncio.create_task(network.connect(Peer, "h", 1))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            attempt.cancel()
            await settle()
        transport, _ = await network.connect(Peer, "h", 1)
        assert transport.get_extra_info("sockname")[1] == 40_001
        listener.close()

    run(main)


# What only virtual time can show.


def test_who_gives_up_before_he_arrives_is_not_noticed() -> None:
    """A server hears nothing of a connect that is cancelled on its way there."""

    async def main(environment: Environment) -> list[Peer]:
        servers: list[Peer] = []

        def accept() -> Peer:
            servers.append(Peer())
            return servers[-1]

        await environment.network.listen(accept, "h", 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.0001):
                await environment.network.connect(Peer, "h", 1)
        await asyncio.sleep(1)
        return servers

    assert run_virtual(main) == []


def test_the_way_takes_time() -> None:
    """Connecting takes the way there and back, a byte the way there."""

    async def main(environment: Environment) -> list[float]:
        now = environment.clock.monotonic
        start = now()
        pair = await Pair.open(environment)
        times = [now() - start]
        start = now()
        pair.client.transport.write(b"x")
        await pair.server.until(lambda: bool(pair.server.received))
        return [*times, now() - start]

    assert run_virtual(main) == pytest.approx([0.0004, 0.0002])


def test_each_write_is_one_delivery() -> None:
    """Bytes are not joined on the way, so that a test sees how many writes there were."""

    async def main(environment: Environment) -> list[str]:
        pair = await Pair.open(environment)
        for _ in range(3):
            pair.client.transport.write(b"x")
        pair.client.transport.close()
        await pair.server.lost()
        return pair.server.events

    assert run_virtual(main) == ["made", "data", "data", "data", "eof", "lost"]


def test_jitter_does_not_mix_the_bytes() -> None:
    """With a jitter a hundred times the latency, the order of one direction stays."""

    async def main(environment: Environment) -> tuple[bytes, float]:
        network = MemoryNetwork(Latency(0.001, jitter=0.1), environment.entropy("jitter").random)
        server = Peer()
        await network.listen(lambda: server, "h", 1)
        transport, _ = await network.connect(Peer, "h", 1)
        assert isinstance(transport, asyncio.Transport)
        for number in range(200):
            transport.write(bytes([number]))
            await asyncio.sleep(0.001)
        transport.close()
        assert await server.lost() is None
        return bytes(server.received), environment.clock.monotonic()

    first = run_virtual(main, seed=1)
    assert first[0] == bytes(range(200))
    assert run_virtual(main, seed=1) == first
    assert run_virtual(main, seed=2)[1] != first[1]


name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


@in_memory
@pytest.mark.parametrize("paused", [False, True], ids=["reading", "paused"])
def test_an_arrival_runs_in_the_context_of_its_write(run: Callable[[Main], Any], paused: bool) -> None:
    """Not in that of the connection or of the reader, also when the bytes have lain unread."""

    async def main(environment: Environment) -> None:
        seen: list[tuple[str, bool]] = []

        def look(_peer: Peer, _data: bytes) -> None:
            seen.append((name.get(), housekeeping.get()))

        name.set("connector")
        pair = await Pair.open(environment, server=Peer(on_data=look))
        if paused:
            pair.server.transport.pause_reading()
        writer = contextvars.copy_context()
        writer.run(name.set, "writer")
        writer.run(pair.client.transport.write, b"1")
        housekeeping_context().run(pair.client.transport.write, b"2")
        pair.client.transport.write(b"3")
        name.set("reader")
        if paused:
            await settle()
            assert pair.server.received == b""
            pair.server.transport.resume_reading()
        await pair.server.until(lambda: len(pair.server.received) == 3)
        assert seen == [("writer", False), ("nobody", True), ("connector", False)]
        await pair.end()

    run(main)
