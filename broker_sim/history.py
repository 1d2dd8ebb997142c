"""Every request and its reply, in order; bounded, while counters and a rolling hash go on for ever.

An `Exchange` keeps the bytes as they came and went, and decodes them when somebody looks: recording one costs little
more than making one object. The hash covers what a deterministic run repeats: when (in microseconds from the start),
which server, which of its peers, the request's code, opaque and header, its body by a checksum, and the reply. So two
runs with equal digests have seen the same requests at the same instants and given the same answers.

This file knows no handler and no clock: times are handed in, in seconds from the start of the cluster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from hashlib import blake2b
from struct import Struct
from zlib import adler32

import msgspec

from rocketmq_aio.wire.frame import FrameReader, RemotingCommand
from rocketmq_aio.wire.incoming import Request

__all__ = ["Exchange", "History"]

#: Beside the count, what is kept is bounded in bytes: few large bodies must not fill the memory.
HISTORY_BYTES_MAX = 64 * 1024 * 1024

#: Exchanges that gather before they are dealt with.
_TOGETHER = 64
_LARGE_BODY = 64 * 1024

_pack_facts = Struct(">ddIiIII").pack


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """One request that a server got, and what it answered.

    Attributes:
        server: the server's name, such as ``broker-a`` or ``name-server-0``.
        peer: which of the cluster's accepted connections the request came on, counted from 1.
        code: the request's code.
        received_at: seconds from the start of the cluster to the arrival.
        replied_at: seconds from the start to the answer; None if nothing was answered.
    """

    server: str
    peer: int
    code: int
    received_at: float
    replied_at: float | None
    incoming: Request
    reply_frame: bytes

    @property
    def request(self) -> RemotingCommand:
        """The request, decoded anew at each access."""
        return self.incoming.command()

    @property
    def reply(self) -> RemotingCommand | None:
        """The answer, decoded anew at each access; None if nothing was answered."""
        if not self.reply_frame:
            return None
        (serialize_type, header, body), = FrameReader().feed(self.reply_frame)
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
        self._seen = 0
        self._counts: dict[int, int] = {}
        self._kept: deque[Exchange] = deque()
        self._new: list[Exchange] = []
        self._hash = blake2b(digest_size=16)

    def record(self, exchange: Exchange) -> None:
        """Take one exchange, in the order in which the servers dealt with them."""
        new = self._new
        new.append(exchange)
        if len(new) >= _TOGETHER or len(exchange.incoming.body) > _LARGE_BODY:
            self._take()

    def _take(self) -> None:
        """Count, hash and keep what has gathered."""
        new, counts = self._new, self._counts
        parts: list[bytes] = []
        size = 0
        for exchange in new:
            incoming, reply = exchange.incoming, exchange.reply_frame
            code, header, body = exchange.code, incoming.header, incoming.body
            replied_at = -1.0 if exchange.replied_at is None else exchange.replied_at
            # Each part's length is among the facts: equal streams mean equal exchanges.
            parts += (
                _pack_facts(
                    exchange.received_at, replied_at, exchange.peer, code, len(header), len(reply), adler32(body)
                ),
                header, reply,
            )  # fmt: skip
            counts[code] = counts.get(code, 0) + 1
            size += len(header) + len(body) + len(reply)
        self._hash.update(b"".join(parts))
        self._seen += len(new)
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
        return self._seen + len(self._new)

    def counts(self) -> dict[int, int]:
        """Request code → how often it was seen, forgotten exchanges included."""
        self._take()
        return dict(self._counts)

    def digest(self) -> str:
        """The hash over everything recorded so far, as 32 hexadecimal digits. Recording goes on afterwards."""
        self._take()
        return self._hash.hexdigest()
