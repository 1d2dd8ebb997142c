"""What a handler is given and what it gives back.

A handler is a plain function ``handler(context, header, body) -> Answer``. It runs to its end, one at a time, so that
it sees and leaves the server's state whole. Its world is its `Context`: it tells no time, rolls no dice and opens
nothing.

Source: `NettyRequestProcessor.java`, `RemotingCommand.java` (5.3.3).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from rocketmq_aio.codes import FLAG_RESPONSE, VERSION, LanguageCode, ResponseCode, SerializeType
from rocketmq_aio.wire.frame import RemotingCommand
from rocketmq_aio.wire.headers import encode_fields
from rocketmq_aio.wire.stored import host_text

if TYPE_CHECKING:
    from rocketmq_aio.net.connection import Connection
    from rocketmq_aio.wire.incoming import Request

__all__ = ["FAQ", "Answer", "Context", "Framed", "Handler", "HandlerTable", "ReplyForm", "Route"]

#: What 5.3.3 appends to some of its remarks.
FAQ = "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details."

_V4_MAPPED = b"\0" * 10 + b"\xff\xff"

S = TypeVar("S")


class ReplyForm(msgspec.Struct, frozen=True, kw_only=True):
    """What all answers of one server have in common.

    Attributes:
        serialize_type: the form of their headers: a server has its own and does not copy the request's.
        version: the version ordinal that it claims to be.
    """

    serialize_type: int = SerializeType.JSON
    version: int = VERSION


class Answer(msgspec.Struct, kw_only=True, gc=False):
    """A reply that has no number yet.

    Attributes:
        code: a `ResponseCode`.
        remark: text of an error, or a status.
        fields: the response's ext fields; None for none at all, which is not the same as empty ones on the wire.
        body: the body.
    """

    code: int = ResponseCode.SUCCESS
    remark: str | None = None
    fields: dict[str, str] | None = None
    body: bytes = b""

    @classmethod
    def of(cls, header: msgspec.Struct, *, code: int = 0, remark: str | None = None, body: bytes = b"") -> Answer:
        """An answer whose ext fields are those of a typed header."""
        return Answer(code=code, remark=remark, fields=encode_fields(header), body=body)

    @classmethod
    def lacking(cls, what: str) -> Answer:
        """The answer to a request without a field that the broker reads: like Java's, it has no ext fields."""
        remark = f"java.lang.NullPointerException: the request has no {what}"
        return Answer(code=ResponseCode.SYSTEM_ERROR, remark=remark)

    def frame(self, opaque: int, form: ReplyForm) -> bytes:
        """The whole frame that answers the request `opaque`.

        Raises:
            LocalProtocolError: it is larger than a frame may be, or has text that UTF-8 cannot express.
        """
        return RemotingCommand(
            self.code, opaque, FLAG_RESPONSE, LanguageCode.JAVA, form.version, self.remark, self.fields, self.body,
            form.serialize_type,
        ).encode()  # fmt: skip


class Context(Generic[S]):
    """What a handler may know beside its request. One for each connection; its facts change with each request.

    Attributes:
        state: of the broker or name server that was asked.
        connection: where the request came from.
        request: the request as it came.
        now_ms: the wall clock, in milliseconds since 1970.
    """

    state: S
    connection: Connection
    request: Request
    now_ms: int = 0

    @cached_property
    def peer(self) -> tuple[bytes, int]:
        """The peer's address (4 or 16 bytes) and port, as records keep them."""
        host, port = self.connection.peer
        try:
            address = ipaddress.ip_address(host.partition("%")[0]).packed
        except ValueError:  # the peer of a network that has no addresses
            return b"\0\0\0\0", port
        return (address[12:] if address.startswith(_V4_MAPPED) else address), port

    @property
    def peer_text(self) -> str:
        """The peer as `host:port`."""
        return host_text(*self.peer)


class Framed(Protocol):
    """What a handler gives back: an `Answer`, or whatever makes the same frame in its own way."""

    def frame(self, opaque: int, form: ReplyForm, /) -> bytes:
        """The whole frame that answers the request `opaque`."""


Handler = Callable[[Context[Any], Any, bytes], Framed]


class Route(NamedTuple):
    """Who deals with a request code: the class of its header, and the function."""

    header: type[msgspec.Struct]
    handler: Handler


#: Request code → who deals with it.
HandlerTable = dict[int, Route]
