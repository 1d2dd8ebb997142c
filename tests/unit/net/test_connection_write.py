"""How a connection writes: one write a tick, large bodies apart, opaques, one-way requests, latency."""

from __future__ import annotations

import asyncio

import pytest

from rocketmq_aio.errors import ConnectionLostError, LocalProtocolError
from rocketmq_aio.net.connection import LARGE_BODY, OPAQUE_MAX, Connection
from rocketmq_aio.wire.frame import FRAME_BYTES_MAX, RemotingCommand
from rocketmq_aio.wire.incoming import Reply, Request, decode_reply, decode_request
from tests.unit.net.fakes import (
    ADDRESS,
    ONEWAY_TEMPLATE,
    FakeTransport,
    RecordingSink,
    World,
    decode_stream,
    reply_frame,
    request_frame,
    turns,
    virtual_time,
)


@virtual_time
async def test_requests_of_a_tick_are_one_write() -> None:
    """Whatever is asked in one turn of the loop is written at its end, in order, in one write."""
    world = World()
    for number in range(100):
        world.request(body=b"%d" % number)
    world.submit(RecordingSink())
    world.connection.write(reply_frame(77))
    posted = world.connection.post(ONEWAY_TEMPLATE, (), b"one-way")
    assert world.transport.writes == []
    await posted
    assert len(world.transport.writes) == 1
    sent = world.sent()
    assert [command.body for command in sent[:100]] == [b"%d" % number for number in range(100)]
    assert [command.opaque for command in sent] == [*range(1, 102), 77, 102]
    assert sent[-1].body == b"one-way" and sent[-1].is_oneway


@virtual_time
async def test_each_tick_has_its_own_write() -> None:
    """A request of the next turn goes into the next write, and nothing is written twice or without need."""
    world = World()
    world.request(body=b"first")
    await turns(2)
    world.request(body=b"second")
    await turns(5)
    assert [[command.body for command in decode_stream(write)] for write in world.transport.writes] == [
        [b"first"], [b"second"],
    ]


@virtual_time
async def test_large_bodies_go_apart_and_in_order() -> None:
    """A body from 64 KiB on is a write of its own, not copied; the small frames around it stay joined."""
    world = World()
    large = [bytes([65 + number]) * (LARGE_BODY + number) for number in range(2)]
    for body in (b"a", b"b", large[0], b"c", large[1], large[1], b"d", b"e"):
        world.request(body=body)
    await turns(1)
    writes = world.transport.writes
    assert [len(write) for write in writes if len(write) >= LARGE_BODY] == [len(body) for body in (*large, large[1])]
    assert len(writes) == 7  # a+b+head, body, c+head, body, head, body, d+e
    assert b"" not in writes
    assert [command.body for command in world.sent()] == [b"a", b"b", large[0], b"c", large[1], large[1], b"d", b"e"]
    world.request(body=b"f")
    world.request(body=b"g")
    await turns(1)
    assert len(writes) == 8


@virtual_time
async def test_a_body_below_the_limit_is_joined() -> None:
    """One byte less than 64 KiB still travels with the others."""
    world = World()
    world.request(body=b"a")
    world.request(body=bytes(LARGE_BODY - 1))
    await turns(1)
    assert len(world.transport.writes) == 1


@virtual_time
async def test_a_large_frame_alone_makes_no_empty_write() -> None:
    """A frame that is large as a whole, next to a large body, leaves no empty write between them."""
    world = World()
    world.connection.write(reply_frame(1, body=bytes(LARGE_BODY)))
    world.request(body=bytes(LARGE_BODY))
    await turns(1)
    assert b"" not in world.transport.writes
    assert [len(command.body) for command in world.sent()] == [LARGE_BODY, LARGE_BODY]


@virtual_time
async def test_opaque_wraps_and_skips_what_is_pending() -> None:
    """After 2^31 - 1 comes 0, and a number that still waits for its answer is not used again."""
    world = World()
    connection = world.connection
    kept = world.request(body=b"opaque 1")
    world.submit(RecordingSink())  # 2
    connection._opaque = OPAQUE_MAX
    world.request()
    world.request()
    skipped = world.submit(RecordingSink())
    connection.post(ONEWAY_TEMPLATE, (), b"")
    connection._opaque = 1
    world.request(body=b"again from 1")
    await turns(1)
    assert [command.opaque for command in world.sent()] == [1, 2, OPAQUE_MAX, 0, 3, 4, 4]
    assert skipped == 3
    world.answer(1)
    assert kept.result().opaque == 1


@virtual_time
async def test_a_one_way_request_waits_for_nothing_but_its_write() -> None:
    """It has no entry in the pending table, and its future is done once the bytes are handed over."""
    world = World()
    first, second = (world.connection.post(ONEWAY_TEMPLATE, (), body) for body in (b"1", b"2"))
    assert not first.done() and world.connection.pending_count == 0
    second.cancel()
    await first
    assert [command.body for command in world.sent()] == [b"1", b"2"]


@virtual_time
async def test_a_one_way_request_fails_if_it_was_not_written() -> None:
    """Lost before the flush: surely not stored."""
    world = World()
    posted = world.connection.post(ONEWAY_TEMPLATE, (), b"")
    world.connection.connection_lost(None)
    with pytest.raises(ConnectionLostError, match="closed the connection") as caught:
        await posted
    assert not caught.value.maybe_stored
    assert world.transport.writes == []


@virtual_time
async def test_what_cannot_be_encoded_is_refused_and_leaves_nothing() -> None:
    """A command that no frame can hold is the caller's error; nothing is pending and nothing is written."""
    world = World()
    for command in (
        RemotingCommand(code=1, body=bytes(FRAME_BYTES_MAX)),
        RemotingCommand(code=1, remark="\ud800"),
        RemotingCommand(code=1 << 40),
    ):
        with pytest.raises(LocalProtocolError):
            world.connection.submit(command, world.now() + 1, RecordingSink())
    await turns(2)
    assert world.connection.pending_count == 0
    assert world.transport.writes == []
    assert world.timers() == 0


@virtual_time
async def test_a_closed_connection_takes_no_request() -> None:
    """Each door says so at once, names the peer, and chains why it closed; a plain write is dropped."""
    world = World()
    unwritten = world.request()
    world.connection.connection_lost(OSError("reset"))
    assert unwritten.exception() is not None
    command = RemotingCommand(code=1)
    for ask in (
        lambda: world.request(),
        lambda: world.connection.submit(command, world.now() + 1, RecordingSink()),
        lambda: world.connection.call(command, world.now() + 1),
        lambda: world.connection.post(ONEWAY_TEMPLATE, (), b""),
    ):
        with pytest.raises(ConnectionLostError, match=r"broker-a .* is closed; nothing was sent") as caught:
            ask()
        assert not caught.value.maybe_stored
        assert caught.value.address == ADDRESS
        assert "reset" in str(caught.value.__cause__)
    world.connection.write(reply_frame(1))
    await turns(2)
    assert world.connection.pending_count == 0
    assert world.transport.writes == []
    assert world.timers() == 0


@virtual_time
async def test_latency_counts_from_the_write() -> None:
    """Not from the call: what waited for the end of the tick was not under way."""
    world = World()
    first = world.request()
    world.loop.call_soon(lambda: None)
    world.jumped += 5.0  # the rest of the tick takes five seconds
    await turns(1)
    await asyncio.sleep(0.020)
    world.answer(1)
    assert first.result().latency == pytest.approx(0.020)
    sink = RecordingSink()
    opaque = world.submit(sink)
    await turns(1)
    await asyncio.sleep(0.004)
    world.answer(opaque)
    assert sink.replies[0].latency == pytest.approx(0.004)


@virtual_time
async def test_reads_and_writes_are_activity() -> None:
    """`last_activity` moves with each flush and each read, so that an idle connection can be told."""
    world = World()
    assert world.connection.last_activity == world.now()
    await asyncio.sleep(10)
    world.connection.write(reply_frame(1))
    await turns(1)
    assert world.connection.last_activity == world.now()
    await asyncio.sleep(10)
    world.connection.data_received(reply_frame(9))
    assert world.connection.last_activity == world.now()


@virtual_time
async def test_addresses_come_from_the_transport() -> None:
    """`peer` and `local` are pairs, and empty where a transport has none (a Unix socket)."""
    world = World()
    assert world.connection.peer == ("10.0.0.1", 10911)
    assert world.connection.local == ("10.0.0.2", 40000)
    nameless = Connection(name="x", monotonic=world.now, decode=decode_reply)
    transport = FakeTransport()
    transport._extra = {"peername": "/run/socket", "sockname": None}
    nameless.connection_made(transport)
    assert nameless.peer == nameless.local == ("", 0)


@virtual_time
async def test_a_burst_of_requests_is_not_answered_beyond_what_the_peer_reads() -> None:
    """A hundred small requests for large answers in one chunk: once the socket is full, the rest waits unanswered."""
    answered: list[int] = []

    def answer(connection: Connection, incoming: Reply | Request) -> None:
        answered.append(incoming.opaque)
        connection.write(RemotingCommand(code=0, opaque=incoming.opaque, flag=1, body=b"x" * 400_000).encode())

    world = World(decode=decode_request, on_request=answer, pause_reading=True)
    full = True

    def write(data: bytes) -> None:  # a transport whose buffer is full as soon as something is written
        if full:
            world.connection.pause_writing()

    world.transport.write = write  # type: ignore[method-assign]
    burst = b"".join(request_frame(opaque) for opaque in range(100))
    world.connection.data_received(burst[:5000])
    world.connection.data_received(burst[5000:])
    assert answered == [0, 1, 2] and world.transport.calls == ["pause_reading"]
    world.connection.resume_writing()
    assert answered == list(range(6)) and world.transport.calls == ["pause_reading", "pause_reading"]
    full = False
    world.connection.resume_writing()
    assert answered == list(range(100)) and world.transport.calls[-1] == "resume_reading"
