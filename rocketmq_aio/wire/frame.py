"""Frames: splitting a byte stream into them, and one command as a frame in both header forms.

    length i32 | serialize type u8 | header length u24 | header | body

It knows no request by its code, and neither who sent a frame nor what to do about a bad one. Any byte sequence gives
frames or a `LocalProtocolError`, nothing else.

Source: `RemotingCommand.java`, `RocketMQSerializable.java`, `NettyDecoder.java`, `LanguageCode.java` (5.3.3, 5.4.0).
Differs: text is escaped as 5.4.0 does (fastjson 2); older Java also escapes U+007F to U+009F, U+2028 and U+2029. What
is not strict JSON (single quotes, bare names, comments, a byte order mark) is refused, of which 5.4.0 refuses most.
Java truncates a code that does not fit the binary form; here it is an error. An empty value of the binary form stays
empty instead of becoming null.
"""

from __future__ import annotations

import re
import struct
from typing import Annotated, Protocol

import msgspec

from rocketmq_aio.codes import FLAG_ONEWAY, FLAG_RESPONSE, VERSION, LanguageCode, SerializeType
from rocketmq_aio.errors import LocalProtocolError

__all__ = ["FRAME_BYTES_MAX", "FrameReader", "RemotingCommand", "Signer", "encode_frame"]

#: A whole frame, its four bytes of length included. Java closes the connection on larger ones.
FRAME_BYTES_MAX = 16_777_216

_LENGTH_MAX = FRAME_BYTES_MAX - 4
_INT32_MAX = 2**31 - 1

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=_INT32_MAX)]

_prefix = struct.Struct(">II")
_unpack_length = struct.Struct(">I").unpack_from
_unpack_prefix = _prefix.unpack_from
_four_int32 = struct.Struct(">iiii")
_binary_head = struct.Struct(">hBhiii")
_int16 = struct.Struct(">h")
_int32 = struct.Struct(">i")

_NUMBER = re.compile(r"([+-]?[0-9]{1,20})(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_LANGUAGE_NAMES = {int(language): language.name for language in LanguageCode}
_LANGUAGES = {language.name: language for language in LanguageCode}
_SERIALIZE_NAMES = {int(kind): kind.name for kind in SerializeType}


class Signer(Protocol):
    """Adds to a request what proves who sent it."""

    def __call__(self, ext_fields: dict[str, str], body: bytes) -> dict[str, str]:
        """The fields to add to `ext_fields`, for a request of these fields and this body."""
        ...  # pragma: no cover


class _JsonHeader(msgspec.Struct):
    """The header as Java writes it: members in this order, those that are null left out."""

    code: int
    extFields: dict[str, str] | msgspec.UnsetType
    flag: int
    language: str | msgspec.UnsetType
    opaque: int
    remark: str | msgspec.UnsetType
    serializeTypeCurrentRPC: str
    version: int


class _JsonCommand(msgspec.Struct):
    """The header as it nearly always comes."""

    code: Int32 | None = 0
    flag: Int32 | None = 0
    opaque: Int32 | None = -1
    version: Int32 | None = 0
    language: str | None = "JAVA"
    remark: str | None = None
    extFields: dict[str, str] | None = None


_encode_json = msgspec.json.Encoder().encode
_decode_usual = msgspec.json.Decoder(_JsonCommand).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


class RemotingCommand(msgspec.Struct):
    """One request or response with everything its frame says.

    Attributes:
        code: a `RequestCode` or, in a response, a `ResponseCode`; signed 32 bits.
        opaque: pairs a response with its request; signed 32 bits. -1 when a peer left it out.
        flag: FLAG_RESPONSE and FLAG_ONEWAY; other bits are kept.
        language: the writer's `LanguageCode`, or None when it is unknown.
        version: the writer's version ordinal.
        remark: text of an error, if any.
        ext_fields: the request's or response's own header fields as text, in the order of the frame.
        body: empty when there is none; the protocol does not tell these apart.
        serialize_type: the form of the header.
    """

    code: int
    opaque: int = 0
    flag: int = 0
    language: int | None = LanguageCode.PYTHON
    version: int = VERSION
    remark: str | None = None
    ext_fields: dict[str, str] | None = None
    body: bytes = b""
    serialize_type: int = SerializeType.JSON

    @property
    def is_response(self) -> bool:
        """Whether this answers a request."""
        return self.flag & FLAG_RESPONSE != 0

    @property
    def is_oneway(self) -> bool:
        """Whether the sender wants no answer."""
        return self.flag & FLAG_ONEWAY != 0

    def encode(self, sign: Signer | None = None) -> bytes:
        """The whole frame.

        Args:
            sign: called with the ext fields and the body; what it returns is added to the fields of the frame, not to
                those of this object.

        Raises:
            LocalProtocolError: a number or a text does not fit, or the frame is larger than FRAME_BYTES_MAX.
        """
        fields = self.ext_fields
        if sign is not None:
            fields = dict(fields or ())
            fields.update(sign(fields, self.body))
        try:
            if self.serialize_type == SerializeType.JSON:
                header = self._json_header(fields)
            elif self.serialize_type == SerializeType.ROCKETMQ:
                header = self._binary_header(fields)
            else:
                raise LocalProtocolError(f"There is no serialize type {self.serialize_type}.")
        except (ValueError, struct.error) as error:
            raise LocalProtocolError(f"The header cannot be written: {_reason(error)}.") from error
        return encode_frame(self.serialize_type, header, self.body)

    def _json_header(self, fields: dict[str, str] | None) -> bytes:
        _four_int32.pack(self.code, self.opaque, self.flag, self.version)  # refuses what Java could not read
        language = None if self.language is None else _LANGUAGE_NAMES.get(self.language)
        return _encode_json(
            _JsonHeader(
                self.code,
                msgspec.UNSET if fields is None else fields,
                self.flag,
                msgspec.UNSET if language is None else language,
                self.opaque,
                msgspec.UNSET if self.remark is None else self.remark,
                _SERIALIZE_NAMES[self.serialize_type],
                self.version,
            )
        )

    def _binary_header(self, fields: dict[str, str] | None) -> bytes:
        language = 255 if self.language is None else self.language
        remark = self.remark.encode() if self.remark else b""
        parts: list[bytes] = []
        for name, value in (fields or {}).items():
            name_bytes, value_bytes = name.encode(), value.encode()
            parts += (_int16.pack(len(name_bytes)), name_bytes, _int32.pack(len(value_bytes)), value_bytes)
        ext = b"".join(parts)
        head = _binary_head.pack(self.code, language, self.version, self.opaque, self.flag, len(remark))
        return b"".join((head, remark, _int32.pack(len(ext)), ext))

    @classmethod
    def decode(cls, serialize_type: int, header: bytes, body: bytes) -> RemotingCommand:
        """The command of a frame.

        As lenient as Java 5.4: numbers may be quoted, ext values may be of any JSON type, unknown members are ignored,
        an unknown language is None, an absent one JAVA.

        Raises:
            LocalProtocolError: the header cannot be read.
        """
        try:
            if serialize_type == SerializeType.JSON:
                command = _decode_json(header)
            elif serialize_type == SerializeType.ROCKETMQ:
                command = _decode_binary(header)
            else:
                raise LocalProtocolError(f"There is no serialize type {serialize_type}.")
        except (ValueError, OverflowError, RecursionError, struct.error) as error:
            raise LocalProtocolError(f"A header of {len(header)} bytes cannot be read: {_reason(error)}.") from error
        command.body = body
        command.serialize_type = serialize_type
        return command


def encode_frame(serialize_type: int, header: bytes, body: bytes) -> bytes:
    """The frame around an encoded header.

    Raises:
        LocalProtocolError: the frame is larger than FRAME_BYTES_MAX.
    """
    length = 4 + len(header) + len(body)
    if length > _LENGTH_MAX:
        raise LocalProtocolError(f"A frame of {length + 4} bytes is larger than the limit of {FRAME_BYTES_MAX}.")
    return b"".join((_prefix.pack(length, serialize_type << 24 | len(header)), header, body))


def _reason(error: Exception) -> str:
    # The text of a UnicodeError is that of its whole argument.
    if isinstance(error, UnicodeError):
        return "text that is not UTF-8"
    return str(error).removesuffix(".")


def _decode_json(header: bytes) -> RemotingCommand:
    try:
        usual = _decode_usual(header)
    except msgspec.ValidationError:
        return _decode_json_leniently(header)
    return RemotingCommand(
        code=usual.code or 0,
        opaque=-1 if usual.opaque is None else usual.opaque,
        flag=usual.flag or 0,
        language=_language(usual.language),
        version=usual.version or 0,
        remark=usual.remark,
        ext_fields=usual.extFields,
    )


def _decode_json_leniently(header: bytes) -> RemotingCommand:
    """The header whose members are not of the usual types."""
    members = _decode_members(header)
    text = {name: json_text(raw) for name, raw in members.items() if name in _JsonCommand.__struct_fields__}
    ext_fields = None
    if text.get("extFields") is not None:
        values = ((name, json_text(raw)) for name, raw in _decode_members(members["extFields"]).items())
        ext_fields = {name: value for name, value in values if value is not None}
    return RemotingCommand(
        code=_number(text.get("code"), 0),
        opaque=_number(text.get("opaque"), -1),
        flag=_number(text.get("flag"), 0),
        language=_language(text.get("language", "JAVA")),
        version=_number(text.get("version"), 0),
        remark=text.get("remark"),
        ext_fields=ext_fields,
    )


def json_text(raw: msgspec.Raw) -> str | None:
    """A JSON value as Java's map of strings holds it: a string's text, None for null, else its compact JSON.

    Raises:
        ValueError: the bytes are not JSON or not UTF-8.
        RecursionError: it is nested too deeply.
    """
    data = bytes(raw)
    if data[:1] == b'"':
        return _decode_text(data)
    if data == b"null":
        return None
    return msgspec.json.format(data, indent=-1).decode()


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    parts = _NUMBER.fullmatch(text)
    if parts is None:
        raise ValueError("a text where a number belongs")
    value = int(float(text)) if parts[3] else int(parts[1])
    if not -_INT32_MAX - 1 <= value <= _INT32_MAX:
        raise ValueError("a number outside 32 bits")
    return value


def _language(name: str | None) -> int | None:
    if name is None:
        return None
    language = _LANGUAGES.get(name) or _LANGUAGES.get(name.upper())
    if language is None and name.isascii() and name.isdigit() and len(name) < 4 and int(name) in _LANGUAGE_NAMES:
        return LanguageCode(int(name))
    return language


def _decode_binary(header: bytes) -> RemotingCommand:
    code, language, version, opaque, flag, remark_bytes = _binary_head.unpack_from(header)
    position = _binary_head.size + remark_bytes
    if remark_bytes < 0 or position + 4 > len(header):
        raise ValueError("the remark's length lies")
    remark = header[_binary_head.size : position].decode() or None
    (ext_bytes,) = _int32.unpack_from(header, position)
    position += 4
    end = position + ext_bytes
    if ext_bytes < 0 or end > len(header):
        raise ValueError("the length of the ext fields lies")
    ext_fields: dict[str, str] = {}
    while position < end:
        (size,) = _int16.unpack_from(header, position)
        value_at = position + 2 + size
        if size < 0 or value_at + 4 > end:
            raise ValueError("the length of an ext field's name lies")
        name = header[position + 2 : value_at].decode()
        (size,) = _int32.unpack_from(header, value_at)
        position = value_at + 4 + size
        if size < 0 or position > end:
            raise ValueError("the length of an ext field's value lies")
        ext_fields[name] = header[value_at + 4 : position].decode()
    return RemotingCommand(
        code=code,
        opaque=opaque,
        flag=flag,
        language=LanguageCode(language) if language in _LANGUAGE_NAMES else None,
        version=version,
        remark=remark,
        ext_fields=ext_fields if ext_bytes else None,
    )


class FrameReader:
    """Splits a byte stream into frames.

    Attributes:
        error: what was wrong with the stream; nothing is read behind it.
    """

    __slots__ = ("_needed", "_partial", "error")

    def __init__(self) -> None:
        self.error: LocalProtocolError | None = None
        self._partial = bytearray()
        self._needed = 0

    @property
    def buffered(self) -> int:
        """Bytes of an incomplete frame that are kept."""
        return len(self._partial)

    def feed(self, data: bytes) -> list[tuple[int, bytes, bytes]]:
        """The frames that `data` completes, as serialize type, header and body.

        When the stream breaks the protocol, the good frames before that point are returned, `error` is set, and every
        later call returns an empty list.
        """
        partial = self._partial
        if partial:
            # Not a list of chunks: a peer that sends byte by byte would make us keep forty times its bytes.
            partial += data
            if len(partial) < self._needed:
                return []
            data = bytes(partial)
            partial.clear()
        frames: list[tuple[int, bytes, bytes]] = []
        if self.error is not None:
            return frames
        position, end = 0, len(data)
        while end - position >= 8:
            length, word = _unpack_prefix(data, position)
            body_at = position + 8 + (word & 0xFFFFFF)
            frame_end = position + 4 + length
            if length > _LENGTH_MAX or body_at > frame_end or word > 0x1FFFFFF:
                self.error = _violation(length, word)
                return frames
            if frame_end > end:
                break
            frames.append((word >> 24, data[position + 8 : body_at], data[body_at:frame_end]))
            position = frame_end
        if position < end:
            self._keep(data[position:])
        return frames

    def _keep(self, rest: bytes) -> None:
        self._needed = 8
        if len(rest) >= 4:
            (length,) = _unpack_length(rest)
            if not 4 <= length <= _LENGTH_MAX:
                self.error = _violation(length, 0)
                return
            if len(rest) >= 8:
                self._needed = 4 + length
        else:
            self._needed = 4
        self._partial += rest


def _violation(length: int, word: int) -> LocalProtocolError:
    if not 4 <= length <= _LENGTH_MAX:
        signed = length - 2**32 if length > _INT32_MAX else length
        return LocalProtocolError(f"A frame announces a length of {signed}; 4 to {_LENGTH_MAX} are possible.")
    if word > 0x1FFFFFF:
        return LocalProtocolError(f"A frame has serialize type {word >> 24}; 0 and 1 are known.")
    return LocalProtocolError(f"A frame of length {length} announces a header of {word & 0xFFFFFF} bytes.")
