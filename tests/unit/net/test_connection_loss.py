"""How a connection ends and how it waits: loss, abort, back-pressure."""

from __future__ import annotations

import asyncio
import gc
import socket
import traceback
import warnings

from rocketmq_aio.errors import ConnectError, ConnectionLostError, TransportError
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.wire.incoming import decode_reply
from tests.unit.net.fakes import (
    ADDRESS,
    ONEWAY_TEMPLATE,
    TEMPLATE,
    FakeTransport,
    RecordingSink,
    World,
    turns,
    virtual_time,
)

# --- loss


@virtual_time
async def test_loss_fails_everything_pending_and_says_what_was_written() -> None:
    """`maybe_stored` is true exactly of what was handed to the socket before."""
    world = World()
    written = [world.request(), world.request()]
    written_sink = RecordingSink()
    world.submit(written_sink)
    await turns(1)
    unwritten = [world.request()]
    unwritten_sink = RecordingSink()
    world.submit(unwritten_sink)
    world.connection.connection_lost(ConnectionResetError(104, "reset by peer"))
    after = [future.exception() for future in written] + written_sink.errors
    before = [future.exception() for future in unwritten] + unwritten_sink.errors
    assert [error.maybe_stored for error in after] == [True] * 3
    assert [error.maybe_stored for error in before] == [False] * 2
    for error in (*after, *before):
        assert type(error) is ConnectionLostError
        assert error.address == ADDRESS and error.retryable
        assert "broker-a at 10.0.0.1:10911 closed the connection ([Errno 104] reset by peer)." in str(error)
    assert world.connection.pending_count == 0
    assert len(world.losses) == 1 and isinstance(world.losses[0].__cause__, ConnectionResetError)


@virtual_time
async def test_each_failed_request_has_an_error_of_its_own() -> None:
    """Errors are raised; one object in two places would mix their tracebacks. The loss itself is their cause."""
    world = World()

    async def ask_here() -> None:
        await world.request()

    async def ask_there() -> None:
        await world.request()

    tasks = [asyncio.ensure_future(ask()) for ask in (ask_here, ask_there)]
    await turns(2)
    world.connection.connection_lost(None)
    await asyncio.wait(tasks)
    here, there = (task.exception() for task in tasks)
    assert here is not there and here.__cause__ is there.__cause__ is world.losses[0]
    frames = [[frame.name for frame in traceback.extract_tb(error.__traceback__)] for error in (here, there)]
    assert "ask_here" in frames[0] and "ask_there" not in frames[0]
    assert "ask_there" in frames[1] and "ask_here" not in frames[1]


@virtual_time
async def test_loss_is_told_once() -> None:
    """Abort and loss, in any order and number, are one end."""
    world = World()
    assert not world.connection.transport_gone
    world.connection.abort()
    world.connection.abort(ConnectError("too late"))
    assert world.transport.calls == ["abort"] and world.losses == [None]
    waiting = asyncio.ensure_future(world.connection.wait_lost())
    await turns(2)
    assert not waiting.done() and not world.connection.transport_gone
    world.connection.connection_lost(None)
    await waiting
    assert world.connection.transport_gone
    world.connection.abort()
    assert world.transport.calls == ["abort"] and world.losses == [None]


@virtual_time
async def test_waiting_for_the_loss_is_safe_to_cancel() -> None:
    """One who stops waiting does not end it for the others."""
    world = World()
    waiters = [asyncio.ensure_future(world.connection.wait_lost()) for _ in range(2)]
    await turns(1)
    waiters[0].cancel()
    await turns(2)
    assert waiters[0].cancelled() and not waiters[1].done()
    world.connection.connection_lost(None)
    await waiters[1]


@virtual_time
async def test_abort_gives_its_reason_to_everybody() -> None:
    """The reason's class and words arrive, with what is true of each request; without one, the words are plain."""
    world = World()
    written = world.request()
    await turns(1)
    unwritten = world.request()
    world.connection.abort(TransportError("the broker has gone mad", address="a:1"))
    for future, stored in ((written, True), (unwritten, False)):
        error = future.exception()
        assert type(error) is TransportError and str(error) == "the broker has gone mad"
        assert error.maybe_stored is stored and error.address == "a:1"
    plain = World()
    future = plain.request()
    plain.connection.abort()
    assert str(future.exception()) == "The connection to broker-a at 10.0.0.1:10911 was closed."


@virtual_time
async def test_what_was_gathered_is_not_written_after_the_end() -> None:
    """The flush that was scheduled finds a closed connection, and no timer is left."""
    world = World()
    future = world.request()
    world.connection.abort()
    await turns(3)
    assert world.transport.writes == [] and world.timers() == 0
    assert future.exception() is not None


@virtual_time
async def test_abort_before_the_connection_is_made() -> None:
    """Nothing breaks, and a transport that comes later is closed at once instead of living on."""
    lost: list[object] = []
    connection = Connection(
        name="x", monotonic=lambda: 1.0, decode=decode_reply, on_lost=lambda _connection, error: lost.append(error)
    )
    connection.abort()
    await connection.wait_lost()
    assert connection.closed and connection.transport_gone and lost == [None]
    transport = FakeTransport()
    connection.connection_made(transport)
    assert transport.calls == ["abort"] and not connection.writable
    connection.connection_lost(None)
    assert lost == [None]


@virtual_time
async def test_a_failed_future_that_nobody_looks_at_is_not_logged() -> None:
    """Somebody who was cancelled in the turn of the loss never looks: that is no reason for an error log."""
    complaints: list[object] = []
    world = World()
    world.loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    world.request()
    world.connection.post(ONEWAY_TEMPLATE, (), b"")
    world.connection.abort()
    gc.collect()
    assert complaints == []


def test_abort_with_the_loop_closed() -> None:
    """At exit the loop may be gone: abort still fails what is pending, raises nothing, and tells the peer."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(10)
    lost: list[object] = []
    loop = asyncio.new_event_loop()

    async def open_and_ask() -> tuple[Connection, list[asyncio.Future], socket.socket, list[asyncio.Task]]:
        connection = Connection(
            name="x", monotonic=loop.time, decode=decode_reply, on_lost=lambda _connection, error: lost.append(error)
        )
        await loop.create_connection(lambda: connection, *listening.getsockname())
        accepted, _ = listening.accept()
        accepted.settimeout(10)
        request = connection.request(TEMPLATE, (), b"", loop.time() + 60)
        connection.pause_writing()
        tasks = [asyncio.ensure_future(connection.drained()), asyncio.ensure_future(wait_for(request))]
        await asyncio.sleep(0)
        return connection, [request], accepted, tasks

    async def wait_for(future: asyncio.Future) -> None:
        await future

    connection, futures, accepted, tasks = loop.run_until_complete(open_and_ask())
    futures.append(connection.post(ONEWAY_TEMPLATE, (), b""))  # never flushed: the loop turns no more
    futures[-1].add_done_callback(futures.append)
    loop.close()
    connection.abort()
    connection.abort()
    assert lost == [None] and connection.closed
    assert all(isinstance(future.exception(), ConnectionLostError) for future in futures)
    while accepted.recv(4096):
        pass
    accepted.close()
    listening.close()
    for task in tasks:
        task._log_destroy_pending = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the transport, whose loop was closed too early
        del connection, tasks, futures
        gc.collect()


# --- back-pressure


@virtual_time
async def test_drained_waits_while_the_socket_is_full() -> None:
    """It returns at once when there is room, and for all who wait when there is room again."""
    world = World()
    await world.connection.drained()
    world.connection.pause_writing()
    assert not world.connection.writable
    waiters = [asyncio.ensure_future(world.connection.drained()) for _ in range(3)]
    await turns(2)
    assert not any(waiter.done() for waiter in waiters)
    world.connection.resume_writing()
    assert world.connection.writable
    await asyncio.wait(waiters)
    assert world.transport.calls == []  # a client goes on reading


@virtual_time
async def test_drained_waits_again_if_it_came_too_late() -> None:
    """Room that is gone before the waiter runs is no room."""
    world = World()
    world.connection.pause_writing()
    waiter = asyncio.ensure_future(world.connection.drained())
    await turns(1)
    world.connection.resume_writing()
    world.connection.pause_writing()
    await turns(3)
    assert not waiter.done()
    world.connection.resume_writing()
    await waiter


@virtual_time
async def test_drained_is_safe_to_cancel_and_keeps_nothing() -> None:
    """Callers that give up, one after the other, leave no trace; those who stay are woken."""
    world = World()
    world.connection.pause_writing()
    stays = asyncio.ensure_future(world.connection.drained())
    leavers = [asyncio.ensure_future(world.connection.drained()) for _ in range(100)]
    await turns(1)
    for leaver in leavers:
        leaver.cancel()
    await turns(2)
    assert len(world.connection._drain_waiters) == 1
    late = asyncio.ensure_future(world.connection.drained())
    await turns(1)
    world.connection.resume_writing()
    late.cancel()  # woken and cancelled in one turn
    await turns(2)
    assert stays.done() and late.cancelled()
    assert len(world.connection._drain_waiters) == 0


@virtual_time
async def test_loss_ends_the_wait_for_room() -> None:
    """Whoever waits for the socket learns that there is none, and room on a closed connection is none."""
    world = World()
    world.connection.pause_writing()
    waiter = asyncio.ensure_future(world.connection.drained())
    await turns(1)
    world.connection.connection_lost(None)
    await waiter
    await world.connection.drained()
    assert world.connection.closed and not world.connection.writable
    world.connection.resume_writing()
    assert not world.connection.writable


@virtual_time
async def test_a_server_stops_reading_while_its_answers_are_not_taken() -> None:
    """Otherwise a peer that asks and never reads would fill the server's memory."""
    world = World(pause_reading=True)
    world.connection.pause_writing()
    assert world.transport.calls == ["pause_reading"]
    world.connection.resume_writing()
    assert world.transport.calls == ["pause_reading", "resume_reading"]
    world.connection.abort()
    world.connection.pause_writing()
    world.connection.resume_writing()
    assert world.transport.calls == ["pause_reading", "resume_reading", "abort"]
