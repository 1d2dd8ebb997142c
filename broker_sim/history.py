"""Every request and its reply, in order; bounded, while counters and a rolling hash go on for ever.

An `Exchange` keeps the bytes as they came and went, and decodes them when somebody looks: recording one costs little
more than making one object. The hash covers what a deterministic run repeats: when, on which connection, how many
bytes, and one running checksum of headers, replies, and the first 256 bytes of bodies. So two runs with equal digests
have, as good as certainly, seen the same requests at the same instants and given the same answers.

This file knows no handler and no clock: times are handed in, in seconds from the start of the cluster.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Collection
from hashlib import blake2b
from operator import attrgetter
from zlib import crc32

import msgspec

from broker_sim.verdicts import Verdict
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.wire.frame import FrameReader, RemotingCommand
from rocketmq_aio.wire.incoming import Request

__all__ = ["Exchange", "History"]

#: Beside the count, what is kept is bounded in bytes: few large bodies must not fill the memory.
HISTORY_BYTES_MAX = 64 * 1024 * 1024

#: Exchanges that gather before they are dealt with.
_TOGETHER = 64
_LARGE = 64 * 1024
#: Bytes of a body that the hash covers.
_HASHED_BODY = 256

_code = attrgetter("code")


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """One request that a server got, and what it answered.

    Attributes:
        server: the server's name, such as ``broker-a`` or ``name-server-0``.
        peer: which of the cluster's accepted connections the request came on, counted from 1.
        code: the request's code.
        received_at: seconds from the start of the cluster to the arrival.
        replied_at: seconds from the start to the answer; None if nothing was answered.
        incoming: the request as it came; `request` decodes it.
        reply_frame: the whole frame of the answer, empty if there was none; `reply` decodes it.
        verdict: what an injection said of it; None if none did.
    """

    server: str
    peer: int
    code: int
    received_at: float
    replied_at: float | None
    incoming: Request
    reply_frame: bytes
    verdict: Verdict | None = None

    @property
    def request(self) -> RemotingCommand:
        """The request, decoded anew at each access."""
        return self.incoming.command()

    @property
    def reply(self) -> RemotingCommand | None:
        """The answer, decoded anew at each access; None if nothing was answered.

        Raises:
            LocalProtocolError: an injection has made something else of it than a frame.
        """
        if not self.reply_frame:
            return None
        frames = FrameReader().feed(self.reply_frame)
        if not frames:
            raise LocalProtocolError("The answer is no whole frame.", hint="`reply_frame` has its bytes.")
        serialize_type, header, body = frames[0]
        return RemotingCommand.decode(serialize_type, header, body)


class History:
    """What the servers of one cluster were asked and what they answered.

    Exchanges gather and are dealt with many at a time, which costs half of dealing with each.

    Args:
        count_max: exchanges that are kept, from 0; the oldest are forgotten first.
        bytes_max: bytes of headers, bodies and replies that are kept.
    """

    def __init__(self, count_max: int, bytes_max: int = HISTORY_BYTES_MAX) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._counts: Counter[int] = Counter()
        self._kept: deque[Exchange] = deque()
        self._new: list[Exchange] = []
        self._hash = blake2b(digest_size=16)
        self._checksum = 0

    def record(self, exchange: Exchange) -> None:
        """Take one exchange, in the order in which the servers dealt with them."""
        new = self._new
        new.append(exchange)
        if len(new) >= _TOGETHER or len(exchange.incoming.body) + len(exchange.reply_frame) > _LARGE:
            self._take()

    def _take(self) -> None:
        """Count, hash and keep what has gathered."""
        new = self._new
        facts: list[float] = []
        pieces: list[bytes] = []
        size = 0
        for exchange in new:
            incoming, reply, replied_at = exchange.incoming, exchange.reply_frame, exchange.replied_at
            header, body = incoming.header, incoming.body
            length = len(header) + len(body) + len(reply)
            facts += (exchange.received_at, -1.0 if replied_at is None else replied_at, exchange.peer, length)
            pieces += (header, body[:_HASHED_BODY], reply)
            size += length
        # Hashing all bytes, or a checksum for each exchange, would cost more than storing a message.
        self._checksum = crc32(b"".join(pieces), self._checksum)
        self._hash.update(array("d", facts).tobytes())
        self._counts.update(map(_code, new))
        self._bytes += size
        kept = self._kept
        kept.extend(new)
        new.clear()
        while kept and (len(kept) > self._count_max or self._bytes > self._bytes_max):
            oldest = kept.popleft()
            self._bytes -= len(oldest.incoming.header) + len(oldest.incoming.body) + len(oldest.reply_frame)

    def exchanges(self, codes: Collection[int] = ()) -> list[Exchange]:
        """The exchanges that are still kept, oldest first.

        Args:
            codes: request codes that are wanted; empty for all.
        """
        self._take()
        wanted = frozenset(int(code) for code in codes)
        return [exchange for exchange in self._kept if not wanted or exchange.code in wanted]

    @property
    def seen(self) -> int:
        """Exchanges recorded so far, forgotten ones included."""
        return self._counts.total() + len(self._new)

    def counts(self) -> dict[int, int]:
        """Request code → how often it was seen, forgotten exchanges included."""
        self._take()
        return dict(self._counts)

    def digest(self) -> str:
        """The hash over everything recorded so far, as 32 hexadecimal digits. Recording goes on afterwards."""
        self._take()
        whole = self._hash.copy()
        whole.update(self._checksum.to_bytes(4, "big"))
        return whole.hexdigest()
