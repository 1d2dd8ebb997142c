"""Decoding what a connection receives: each header once, and only as far as its reader needs.

A client reads replies, most of them to sends; a server reads requests, whose fields it decodes when it knows the code.
Both keep the header's bytes, from which the whole command can be had later. Nothing here knows what a code means.

Source: `RemotingCommand.java` (`decode`, `decodeCommandCustomHeader`) of 5.3.3.
Differs: Java decodes all ext fields into a map of strings, and that into a header class by reflection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import field

from rocketmq_aio.codes import FLAG_ONEWAY, FLAG_RESPONSE, SerializeType
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.wire.frame import Int32, RemotingCommand, json_text
from rocketmq_aio.wire.headers import SendMessageResponseHeader, decode_fields

__all__ = ["Reply", "Request", "decode_reply", "decode_request"]

H = TypeVar("H", bound=msgspec.Struct)

# Attributes that are set after decoding. A peer that uses their odd names can give them their defaults and nothing
# else, which saves setting each of them again. The limits hold for decoding only.
_LocalInt = Annotated[int, msgspec.Meta(ge=0, le=0)]
_LocalFloat = Annotated[float, msgspec.Meta(ge=0, le=0)]
_LocalBytes = Annotated[bytes, msgspec.Meta(max_length=0)]
_LocalMap = Annotated[dict[str, str], msgspec.Meta(max_length=0)]


class Reply(msgspec.Struct, gc=False):
    """What a client reads of a frame.

    Attributes:
        code: a `ResponseCode`; a `RequestCode` if the server asks something.
        flag: see FLAG_RESPONSE and FLAG_ONEWAY.
        opaque: the request's number; -1, which no request has, if the frame has none.
        version: the server's version ordinal.
        remark: text of an error, if any.
        ext_fields: those of a send response, all of them optional; None if the frame has no ext fields at all.
        serialize_type: the form of the header.
        header: the undecoded header.
        body: empty when there is none.
        latency: seconds from request to reply, as its connection measured them.
        received_at: when it was read, in monotonic seconds.
    """

    code: Int32 = 0
    flag: Int32 = 0
    opaque: Int32 = -1
    version: Int32 = 0
    remark: str | None = None
    ext_fields: SendMessageResponseHeader | None = field(default=None, name="extFields")
    serialize_type: _LocalInt = field(default=0, name="(serialize_type)")
    header: _LocalBytes = field(default=b"", name="(header)")
    body: _LocalBytes = field(default=b"", name="(body)")
    latency: _LocalFloat = field(default=0.0, name="(latency)")
    received_at: _LocalFloat = field(default=0.0, name="(received_at)")

    @property
    def is_response(self) -> bool:
        """Whether this answers a request."""
        return self.flag & FLAG_RESPONSE != 0

    def command(self) -> RemotingCommand:
        """Everything that the frame says.

        Raises:
            LocalProtocolError: a part that `Reply` did not need cannot be read.
        """
        return RemotingCommand.decode(self.serialize_type, self.header, self.body)

    def fields(self, cls: type[H]) -> H:
        """The ext fields as a header of `cls`; its defaults if there are none.

        Raises:
            LocalProtocolError: they cannot be read.
        """
        return decode_fields(cls, self.command().ext_fields or {})


class Request(msgspec.Struct, gc=False):
    """What a server reads of a frame before it knows what to make of it.

    Attributes:
        code: a `RequestCode`.
        flag: see FLAG_RESPONSE and FLAG_ONEWAY.
        opaque: the number to answer with; -1 if the frame has none.
        version: the client's version ordinal.
        remark: text of an error, if any.
        ext_fields: the undecoded JSON of the fields, empty if there are none; `fields` reads it.
        ext_map: the fields, if they came in the binary form or in an unusual JSON.
        serialize_type: the form of the header.
        header: the undecoded header.
        body: empty when there is none.
        latency: if it is an answer, seconds from request to reply, as its connection measured them.
        received_at: if it is an answer, when it was read, in monotonic seconds.
    """

    code: Int32 = 0
    flag: Int32 = 0
    opaque: Int32 = -1
    version: Int32 = 0
    remark: str | None = None
    ext_fields: msgspec.Raw = field(default=msgspec.Raw(), name="extFields")
    ext_map: _LocalMap | None = field(default=None, name="(ext_map)")
    serialize_type: _LocalInt = field(default=0, name="(serialize_type)")
    header: _LocalBytes = field(default=b"", name="(header)")
    body: _LocalBytes = field(default=b"", name="(body)")
    latency: _LocalFloat = field(default=0.0, name="(latency)")
    received_at: _LocalFloat = field(default=0.0, name="(received_at)")

    @property
    def is_response(self) -> bool:
        """Whether this answers a request."""
        return self.flag & FLAG_RESPONSE != 0

    @property
    def is_oneway(self) -> bool:
        """Whether the sender wants no answer."""
        return self.flag & FLAG_ONEWAY != 0

    def command(self) -> RemotingCommand:
        """Everything that the frame says.

        Raises:
            LocalProtocolError: the ext fields, which are not looked at before, cannot be read.
        """
        return RemotingCommand.decode(self.serialize_type, self.header, self.body)

    def fields(self, cls: type[H]) -> H:
        """The ext fields as a header of `cls`; its defaults if there are none.

        As Java, it takes numbers with or without quotes, and the default for what is no number. Java's rule that a
        boolean other than "true" is false has one exception: "1" is true.

        Raises:
            LocalProtocolError: the fields are not an object of UTF-8 text.
        """
        if self.ext_map:
            return decode_fields(cls, self.ext_map)
        raw = self.ext_fields
        if not raw or raw == _NULL:
            return cls()
        decode = _field_decoders.get(cls)
        if decode is None:
            decode = _field_decoders[cls] = msgspec.json.Decoder(cls, strict=False).decode
        try:
            return cast(H, decode(raw))
        except msgspec.ValidationError:
            return decode_fields(cls, _text_map(raw))
        except (ValueError, RecursionError) as error:
            raise _unreadable(error) from error


_NULL = msgspec.Raw(b"null")
_field_decoders: dict[type[msgspec.Struct], Callable[[Any], Any]] = {}
_decode_reply_json = msgspec.json.Decoder(Reply, strict=False).decode
_decode_request_json = msgspec.json.Decoder(Request).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_JSON = int(SerializeType.JSON)


def decode_reply(serialize_type: int, header: bytes, body: bytes) -> Reply:
    """A frame that a client received.

    Raises:
        LocalProtocolError: the header cannot be read.
    """
    if serialize_type == _JSON:
        try:
            reply = _decode_reply_json(header)
        except (ValueError, RecursionError):
            reply = _reply_of(RemotingCommand.decode(serialize_type, header, body))
    else:
        reply = _reply_of(RemotingCommand.decode(serialize_type, header, body))
        reply.serialize_type = serialize_type
    reply.header = header
    if body:
        reply.body = body
    return reply


def decode_request(serialize_type: int, header: bytes, body: bytes) -> Request:
    """A frame that a server received. Its ext fields are only checked to be JSON.

    Raises:
        LocalProtocolError: the header cannot be read.
    """
    if serialize_type == _JSON:
        try:
            request = _decode_request_json(header)
        except (ValueError, RecursionError):
            request = _request_of(RemotingCommand.decode(serialize_type, header, body))
    else:
        request = _request_of(RemotingCommand.decode(serialize_type, header, body))
        request.serialize_type = serialize_type
    request.header = header
    if body:
        request.body = body
    return request


def _reply_of(command: RemotingCommand) -> Reply:
    fields = command.ext_fields
    ext_fields = None if fields is None else decode_fields(SendMessageResponseHeader, fields)
    return Reply(command.code, command.flag, command.opaque, command.version, command.remark, ext_fields)


def _request_of(command: RemotingCommand) -> Request:
    return Request(
        command.code, command.flag, command.opaque, command.version, command.remark, ext_map=command.ext_fields or {}
    )


def _text_map(raw: msgspec.Raw) -> dict[str, str]:
    try:
        values = [(name, json_text(value)) for name, value in _decode_members(raw).items()]
    except (ValueError, RecursionError) as error:
        raise _unreadable(error) from error
    return {name: value for name, value in values if value is not None}


def _unreadable(error: Exception) -> LocalProtocolError:
    reason = "text that is not UTF-8" if isinstance(error, UnicodeError) else str(error)
    return LocalProtocolError(f"The ext fields of a request cannot be read: {reason}.")
