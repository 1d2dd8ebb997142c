"""How a connection hears: answers by opaque into any kind of sink, requests of the peer, and bytes that are neither."""

from __future__ import annotations

import asyncio

import pytest

from rocketmq_aio.codes import FLAG_ONEWAY, FLAG_RESPONSE
from rocketmq_aio.errors import ConnectionLostError, LocalProtocolError, RemoteProtocolError, RocketMQError
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.net.pool import refuse_request
from rocketmq_aio.wire.frame import RemotingCommand
from rocketmq_aio.wire.incoming import Reply, decode_request
from tests.unit.net.fakes import ADDRESS, RecordingSink, World, reply_frame, request_frame, turns, virtual_time

# --- answers


@virtual_time
async def test_answers_are_matched_by_opaque_in_any_order() -> None:
    """The last request may be answered first; each gets its own answer, of whatever code."""
    world = World()
    futures = [world.request() for _ in range(5)]
    await turns(1)
    for opaque in (4, 1, 5, 2, 3):
        world.answer(opaque, code=opaque * 10)
    assert [future.result().code for future in futures] == [10, 20, 30, 40, 50]
    assert world.connection.pending_count == 0
    assert world.connection.late_answers == 0


@virtual_time
async def test_answers_may_come_in_any_pieces() -> None:
    """Byte by byte, or two and a half in one chunk."""
    world = World()
    futures = [world.request() for _ in range(4)]
    await turns(1)
    stream = b"".join(reply_frame(opaque, body=b"%d" % opaque) for opaque in (1, 2, 3, 4))
    cut = len(stream) * 5 // 8
    world.connection.data_received(stream[:cut])
    assert [future.done() for future in futures] == [True, True, False, False]
    for position in range(cut, len(stream)):
        world.connection.data_received(stream[position : position + 1])
    assert [future.result().body for future in futures] == [b"1", b"2", b"3", b"4"]


@virtual_time
async def test_an_unknown_opaque_is_counted_and_harmless() -> None:
    """Nobody waits for it: neither a number that was never sent, nor none at all, nor one that was answered."""
    world = World()
    future = world.request()
    await turns(1)
    world.answer(99)
    world.connection.data_received(reply_frame(-1))
    world.answer(1, 1)
    assert future.result().opaque == 1
    assert world.connection.late_answers == 3
    assert not world.connection.closed


@virtual_time
async def test_call_gives_a_future_of_the_answer() -> None:
    """`call` sets the opaque of the command and resolves with the reply."""
    world = World()
    command = RemotingCommand(code=34, opaque=-5)
    future = world.connection.call(command, world.now() + 1)
    await turns(1)
    assert world.sent()[0].opaque == command.opaque == 1
    world.answer(1, code=7)
    assert (await future).code == 7


@virtual_time
async def test_an_answer_after_cancelling_is_counted() -> None:
    """A cancelled caller's answer goes nowhere, is counted once, and frees the entry."""
    world = World()
    task = asyncio.ensure_future(world.request())
    other = world.request()
    await turns(1)
    task.cancel()
    await turns(1)
    assert world.connection.pending_count == 2
    world.answer(1, 2)
    assert task.cancelled() and other.result().opaque == 2
    assert world.connection.late_answers == 1
    assert world.connection.pending_count == 0


# --- kinds of sinks


class Retrying:
    """Asks again until an answer has code 0: the sink of a send that may be tried more than once."""

    def __init__(self, world: World) -> None:
        self.codes: list[int] = []
        self.errors: list[RocketMQError] = []
        self._world = world

    def settle(self, reply: Reply) -> None:
        """Another attempt, or the end."""
        self.codes.append(reply.code)
        if reply.code:
            self._world.submit(self)

    def fail(self, error: RocketMQError) -> None:
        """Keep the error."""
        self.errors.append(error)


class Racing:
    """Two attempts for one future: the first answer wins, the other one is counted."""

    def __init__(self) -> None:
        self.winner: Reply | None = None
        self.losers = 0

    def settle(self, reply: Reply) -> None:
        """The first wins."""
        if self.winner is None:
            self.winner = reply
        else:
            self.losers += 1

    def fail(self, error: RocketMQError) -> None:
        """Nothing: the other attempt may come."""


@virtual_time
async def test_a_sink_may_ask_again_while_it_is_settled() -> None:
    """A retry from within `settle`, in the middle of a chunk of answers, is a new request with a new opaque."""
    world = World()
    sink = Retrying(world)
    world.submit(sink)
    other = world.request()
    await turns(1)
    world.connection.data_received(reply_frame(1, code=2) + reply_frame(2))
    assert other.result().opaque == 2
    await turns(1)
    world.answer(3, code=2)
    await turns(1)
    world.answer(4, code=0)
    assert sink.codes == [2, 2, 0] and sink.errors == []
    assert [command.opaque for command in world.sent()] == [1, 2, 3, 4]
    assert world.connection.pending_count == 0


@virtual_time
async def test_two_attempts_can_share_a_sink() -> None:
    """Both answers reach it; the first settles the message, and the loser's stays to be counted."""
    world = World()
    sink = Racing()
    world.submit(sink)
    second = world.submit(sink)
    await turns(1)
    world.answer(second, code=0)
    assert sink.winner is not None and sink.winner.opaque == second
    assert world.connection.pending_count == 1
    world.answer(1)
    assert sink.losers == 1
    assert world.connection.late_answers == 0  # the sink knows, the connection need not


@virtual_time
async def test_two_attempts_can_share_a_future() -> None:
    """The first answer wins; the loser's is counted as late, and so is nothing else."""
    world = World()
    future: asyncio.Future[Reply] = world.loop.create_future()
    world.submit(future)
    world.submit(future)
    await turns(1)
    world.answer(2)
    world.answer(1)
    assert future.result().opaque == 2
    assert world.connection.late_answers == 1


@virtual_time
async def test_the_members_of_a_batch_settle_together() -> None:
    """One request whose sink has many members: one answer settles all of them, one loss fails all of them."""

    class Batch:
        def __init__(self) -> None:
            self.members: list[asyncio.Future[int]] = [world.loop.create_future() for _ in range(3)]

        def settle(self, reply: Reply) -> None:
            for offset, member in enumerate(self.members):
                if not member.done():
                    member.set_result(reply.code + offset)

        def fail(self, error: RocketMQError) -> None:
            for member in self.members:
                if not member.done():
                    member.set_exception(error.again())

    world = World()
    first, second = Batch(), Batch()
    world.submit(first)
    world.submit(second)
    first.members[1].cancel()
    await turns(1)
    world.answer(1, code=100)
    assert [member.cancelled() or member.result() for member in first.members] == [100, True, 102]
    world.connection.connection_lost(None)
    errors = [member.exception() for member in second.members]
    assert len(set(map(id, errors))) == 3
    assert all(isinstance(error, ConnectionLostError) and error.maybe_stored for error in errors)


@virtual_time
async def test_a_long_request_waits_beside_short_ones() -> None:
    """A pull that the broker parks for 20 s is answered then; requests before and behind it are not held up."""
    world = World()
    pull, short = RecordingSink(world), RecordingSink(world)
    world.submit(pull, due_in=30.0)
    for _ in range(20):
        opaque = world.submit(short, due_in=3.0)
        await asyncio.sleep(1.0)
        world.answer(opaque)
    assert pull.times == [] and len(short.replies) == 20
    world.answer(1)
    assert pull.times == [world.now()] and pull.errors == []
    assert 20.0 <= pull.replies[0].latency <= 20.1


@virtual_time
async def test_a_sink_may_close_the_connection() -> None:
    """What stands behind the answer in the same chunk is lost with the connection: answers fail once, requests are
    not handed over.
    """
    asked: list[object] = []
    world = World(on_request=lambda _connection, incoming: asked.append(incoming))

    class Closing(RecordingSink):
        def settle(self, reply: Reply) -> None:
            super().settle(reply)
            world.connection.abort()

    closing, other = Closing(), RecordingSink()
    world.submit(closing)
    world.submit(other)
    await turns(1)
    world.connection.data_received(reply_frame(1) + reply_frame(2) + request_frame(3))
    assert len(closing.replies) == 1 and closing.errors == [] and asked == []
    assert other.replies == [] and len(other.errors) == 1


# --- requests of the peer


@virtual_time
async def test_a_request_of_the_peer_is_handed_over() -> None:
    """Either end may ask; answers around it reach their sinks all the same."""
    asked: list[tuple[Connection, int, int]] = []
    world = World(on_request=lambda connection, incoming: asked.append((connection, incoming.code, incoming.opaque)))
    future = world.request()
    await turns(1)
    world.connection.data_received(request_frame(500) + reply_frame(1) + request_frame(1, code=39))
    assert asked == [(world.connection, 40, 500), (world.connection, 39, 1)]
    assert future.result().opaque == 1


@virtual_time
async def test_without_a_taker_requests_are_dropped() -> None:
    """Nothing is answered, nothing breaks."""
    world = World()
    world.connection.data_received(request_frame(500))
    await turns(2)
    assert world.transport.writes == [] and not world.connection.closed


@virtual_time
async def test_a_client_refuses_requests_as_java_does() -> None:
    """Code 3 with Java's words, under the request's opaque; a one-way request gets no answer."""
    world = World(on_request=refuse_request)
    world.connection.data_received(
        request_frame(500, code=40) + request_frame(501, flag=FLAG_ONEWAY) + request_frame(-1, code=39)
    )
    await turns(1)
    answers = world.sent()
    assert [(answer.code, answer.opaque, answer.flag) for answer in answers] == [
        (3, 500, FLAG_RESPONSE), (3, -1, FLAG_RESPONSE),
    ]
    assert answers[0].remark == " request type 40 not supported"


@virtual_time
async def test_what_takes_requests_may_close_the_connection() -> None:
    """No further request of the same chunk is handed over."""
    asked: list[int] = []

    def take(connection: Connection, incoming: Reply) -> None:
        asked.append(incoming.opaque)
        connection.abort()

    world = World(on_request=take)
    world.connection.data_received(request_frame(1) + request_frame(2))
    assert asked == [1]


@virtual_time
async def test_a_server_can_ask_and_be_answered() -> None:
    """The same class serves both ends: with `decode_request`, answers still find their sinks."""
    asked: list[str | None] = []
    world = World(decode=decode_request, on_request=lambda _connection, incoming: asked.append(incoming.remark))
    future = world.connection.call(RemotingCommand(code=40), world.now() + 1)
    await turns(1)
    world.connection.data_received(request_frame(1) + reply_frame(1, code=5))
    assert future.result().code == 5 and len(asked) == 1


# --- not the protocol


@virtual_time
@pytest.mark.parametrize(
    ("garbage", "guess"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "It answers in HTTP: look at the address and the port."),
        (b"\x15\x03\x01\x00\x02\x02\x16", "It answers in TLS, which this client does not speak yet."),
        (b"\xff\xff\xff\xff\x00\x00\x00\x00", ""),
        (b"\x00\x00\x00\x08\x00\x00\x00\x04nope", ""),
        (b"\x00\x00\x00\x08\x07\x00\x00\x04{}{}", ""),
    ],
    ids=["http", "tls", "negative length", "header that is no JSON", "unknown serialize type"],
)
async def test_bytes_that_are_not_the_protocol_end_the_connection(garbage: bytes, guess: str) -> None:
    """Everything pending fails with a `RemoteProtocolError` that names the peer, the reason and a guess."""
    world = World()
    written = world.request()
    await turns(1)
    unwritten = world.request()
    world.connection.data_received(garbage)
    assert world.transport.calls == ["abort"] and world.connection.closed
    errors = [future.exception() for future in (written, unwritten)]
    for error in (*errors, *world.losses):
        assert type(error) is RemoteProtocolError
        assert error.address == ADDRESS and str(error).endswith(guess or ".")
        assert "broker-a at 10.0.0.1:10911 sent bytes that are not the remoting protocol: " in str(error)
    assert [error.maybe_stored for error in errors] == [True, False]
    assert len(world.losses) == 1
    assert isinstance(world.losses[0].__cause__, LocalProtocolError)


@virtual_time
@pytest.mark.parametrize("garbage", [b"HTTP/1.1 200", b"\x00\x00\x00\x08\x00\x00\x00\x04nope"])
async def test_frames_before_the_garbage_are_delivered(garbage: bytes) -> None:
    """A good answer counts, whatever comes behind it in the same chunk; nothing behind the garbage does."""
    world = World()
    first, second = world.request(), world.request()
    await turns(1)
    world.connection.data_received(reply_frame(1) + garbage + reply_frame(2))
    assert first.result().opaque == 1
    assert isinstance(second.exception(), RemoteProtocolError)


@virtual_time
async def test_nothing_is_read_behind_the_garbage() -> None:
    """Bytes that arrive on a connection that was refused change nothing any more."""
    world = World(on_request=refuse_request)
    world.connection.data_received(b"\xff\xff\xff\xff")
    world.connection.data_received(request_frame(1) + b"\xff\xff\xff\xff")
    await turns(2)
    assert world.transport.writes == []
    assert world.transport.calls == ["abort"]
    assert len(world.losses) == 1
