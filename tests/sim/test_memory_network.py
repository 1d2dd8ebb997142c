"""Connections in memory behave as asyncio's TCP connections do: each test here runs on both."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import pytest

from broker_sim.worlds.transport import HIGH_WATER_BYTES
from rocketmq_aio.environment import Environment
from tests.sim.peers import WORLDS, Main, Pair, Peer

everywhere = pytest.mark.parametrize("run", WORLDS.values(), ids=WORLDS)


@everywhere
def test_bytes_arrive_in_order(run: Callable[[Main], Any]) -> None:
    """Both directions carry what is written, in its order, whatever kind of bytes it is."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment, server=Peer(on_data=lambda peer, data: peer.transport.write(data)))
        mutable = bytearray(b"two")
        pair.client.transport.write(b"one")
        pair.client.transport.write(mutable)
        mutable[:] = b"bad"
        pair.client.transport.write(b"")
        pair.client.transport.writelines([b"three", memoryview(b"four")])
        await pair.client.until(lambda: len(pair.client.received) == 15)
        assert pair.client.received == pair.server.received == b"onetwothreefour"
        await pair.end()

    run(main)


@everywhere
def test_addresses_name_both_ends(run: Callable[[Main], Any]) -> None:
    """One end's peername is the other end's sockname; the server's is where it listens."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment)
        client, server = pair.client.transport, pair.server.transport
        assert client.get_extra_info("peername") == server.get_extra_info("sockname")
        assert client.get_extra_info("sockname") == server.get_extra_info("peername")
        assert client.get_extra_info("peername") == (pair.listener.host, pair.listener.port)
        assert pair.listener.port > 0
        assert client.get_extra_info("sockname")[1] != pair.listener.port
        assert client.get_extra_info("nothing", "default") == "default"
        await pair.end()

    run(main)


@everywhere
def test_close_lets_everything_arrive(run: Callable[[Main], Any]) -> None:
    """After `close` the peer gets what was written, then the end of file; both ends are lost without an error."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment)
        payload = b"x" * 1_000_000
        pair.client.transport.write(payload)
        assert not pair.client.transport.is_closing()
        pair.client.transport.close()
        pair.client.transport.close()
        assert pair.client.transport.is_closing()
        pair.client.transport.write(b"ignored")
        assert await pair.server.lost() is None
        assert await pair.client.lost() is None
        assert pair.server.received == payload
        assert pair.server.events[-2:] == ["eof", "lost"]
        assert "eof" not in pair.client.events
        pair.listener.close()

    run(main)


@everywhere
def test_a_half_closed_connection_carries_the_other_direction(run: Callable[[Main], Any]) -> None:
    """After `write_eof` the peer may answer, if its protocol keeps the connection open."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment, server=Peer(keep_open=True))
        assert pair.client.transport.can_write_eof()
        pair.client.transport.write(b"question")
        pair.client.transport.write_eof()
        with pytest.raises(RuntimeError, match=r"write_eof|shutting down|closed"):
            pair.client.transport.write(b"more")
        await pair.server.until(lambda: "eof" in pair.server.events)
        assert pair.server.received == b"question"
        pair.server.transport.write(b"answer")
        await pair.client.until(lambda: pair.client.received == b"answer")
        pair.server.transport.close()
        assert await pair.client.lost() is None
        assert await pair.server.lost() is None
        pair.listener.close()

    run(main)


@everywhere
def test_a_slow_reader_stops_the_writer(run: Callable[[Main], Any]) -> None:
    """A reader that pauses makes the writer's buffer grow until it is told to pause; reading on resumes it."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment)
        client, server = pair.client, pair.server
        server.transport.pause_reading()
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        written = 0
        # TCP takes some megabytes before its buffers are full.
        while "pause" not in client.events and written < 64_000_000:
            client.transport.write(b"x" * 50_000)
            written += 50_000
            await asyncio.sleep(0)
        assert client.events[-1] == "pause"
        assert client.transport.get_write_buffer_size() > HIGH_WATER_BYTES
        server.transport.resume_reading()
        assert server.transport.is_reading()
        await client.until(lambda: "resume" in client.events)
        await server.until(lambda: len(server.received) == written)
        assert client.transport.get_write_buffer_size() == 0
        await pair.end()

    run(main)


@everywhere
def test_nobody_listens(run: Callable[[Main], Any]) -> None:
    """Connecting to an address where nobody listens, or nobody listens any more, is refused."""

    async def main(environment: Environment) -> None:
        listener = await environment.network.listen(Peer, "127.0.0.1", 0)
        listener.close()
        listener.close()
        with pytest.raises(ConnectionRefusedError) as caught:
            await environment.network.connect(Peer, "127.0.0.1", listener.port)
        assert caught.value.errno == errno.ECONNREFUSED

    run(main)


@everywhere
def test_closing_a_listener_keeps_its_connections(run: Callable[[Main], Any]) -> None:
    """Accepted connections work on when their listener is closed; its port can be listened on again."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment)
        pair.listener.close()
        pair.client.transport.write(b"still here")
        await pair.server.until(lambda: pair.server.received == b"still here")
        await pair.end()
        again = await environment.network.listen(Peer, pair.listener.host, pair.listener.port)
        assert again.port == pair.listener.port
        again.close()

    run(main)


@everywhere
def test_an_address_is_taken_once(run: Callable[[Main], Any]) -> None:
    """A second listener at one address is refused."""

    async def main(environment: Environment) -> None:
        listener = await environment.network.listen(Peer, "127.0.0.1", 0)
        with pytest.raises(OSError) as caught:
            await environment.network.listen(Peer, "127.0.0.1", listener.port)
        assert caught.value.errno == errno.EADDRINUSE
        listener.close()

    run(main)


@everywhere
def test_what_is_no_bytes_is_not_written(run: Callable[[Main], Any]) -> None:
    """Text is a `TypeError` at the writer."""

    async def main(environment: Environment) -> None:
        pair = await Pair.open(environment)
        with pytest.raises(TypeError):
            pair.client.transport.write("text")  # type: ignore[arg-type]
        await pair.end()

    run(main)
