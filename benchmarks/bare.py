"""The second reference: a client and a server that do the wire format and nothing else.

Each message is encoded, stored as a record, acknowledged and decoded, with the same bytes as a real send, in the
shortest Python that does it. There is no deadline, no route, no second try at anything, no window, no history and no
second broker. The raw echo tells what sockets and futures cost, this tells what the protocol costs in pure Python on
this machine; the rest of a send's cost is what the library does for its users.
"""

from __future__ import annotations

import asyncio
import time
from struct import Struct
from typing import cast

import msgspec
from msgspec import field

from rocketmq_aio.codes import VERSION, RequestCode
from rocketmq_aio.wire.headers import SendMessageRequestHeaderV2, SendMessageResponseHeader
from rocketmq_aio.wire.stored import encode_stored
from rocketmq_aio.wire.template import plain_template, send_template

__all__ = ["BareClient", "BareResult", "BareServer"]

_unpack_prefix, _pack_prefix = Struct(">II").unpack_from, Struct(">II").pack
_ID = slice(9, 41)  # behind "UNIQ_KEY" and a separator, as the client below writes it
_HOST = (b"\x7f\0\0\1", 10911)
_REPLY = (
    b'{"code":0,"extFields":{"queueId":"%d","transactionId":"%b","msgId":"7F00000100002A9F%016X","TRACE_ON":"true",'
    b'"MSG_REGION":"DefaultRegion","queueOffset":"%d"},"flag":1,"language":"JAVA","opaque":%d,'
    b'"serializeTypeCurrentRPC":"JSON","version":' + b"%d}" % VERSION
)


class _Request(msgspec.Struct, gc=False):
    opaque: int
    ext_fields: SendMessageRequestHeaderV2 = field(name="extFields")


class _Reply(msgspec.Struct, gc=False):
    code: int
    opaque: int
    ext_fields: SendMessageResponseHeader = field(name="extFields")


_decode_request = msgspec.json.Decoder(_Request, strict=False).decode
_decode_reply = msgspec.json.Decoder(_Reply, strict=False).decode


class BareResult(msgspec.Struct, gc=False):
    """Where a message is stored, and how long that took in seconds."""

    message_id: str
    offset_message_id: str
    queue_id: int
    queue_offset: int
    latency: float


class BareServer(asyncio.Protocol):
    """Stores what it is sent.

    Args:
        logs: one list of records for each queue.
    """

    def __init__(self, logs: list[list[bytes]]) -> None:
        self._logs = logs
        self._physical_offset = 0
        self._rest = b""
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Store the messages, and acknowledge them in one write."""
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        out: list[bytes] = []
        now_ms = int(time.time() * 1000)
        while end - position >= 8:
            length, header_length = _unpack_prefix(data, position)
            if end - position - 4 < length:
                break
            body_at = position + 8 + header_length
            request = _decode_request(data[position + 8 : body_at])
            position += 4 + length
            fields = request.ext_fields
            queue_id, properties = fields.queue_id or 0, fields.properties or ""
            log = self._logs[queue_id]
            record = encode_stored(
                topic=fields.topic or "", body=data[body_at:position], property_string=properties, queue_id=queue_id,
                born_timestamp_ms=fields.born_timestamp or 0, born_host=_HOST, store_host=_HOST,
                queue_offset=len(log), physical_offset=self._physical_offset, store_timestamp_ms=now_ms,
            )  # fmt: skip
            message_id = properties[_ID].encode()
            header = _REPLY % (queue_id, message_id, self._physical_offset, len(log), request.opaque)
            log.append(record)
            self._physical_offset += len(record)
            out += (_pack_prefix(4 + len(header), len(header)), header)
        self._rest = data[position:]
        if out:
            self._transport.write(b"".join(out))


class BareClient(asyncio.Protocol):
    """Sends to the queues in turn; one future for each message, and one write for a turn of the loop.

    Args:
        topic: the topic.
        queues: how many queues it has.
    """

    def __init__(self, topic: str, queues: int) -> None:
        self._lanes = [plain_template(_template(topic, queue_id)) for queue_id in range(queues)]
        self._id_prefix = f"7F000001{time.time_ns() & 0xFFFFFFFFFFFFFFFF:016X}"
        self._count = 0
        self._out: list[bytes] = []
        self._pending: dict[int, asyncio.Future[tuple[_Reply, float]]] = {}
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport."""
        self._transport = cast(asyncio.Transport, transport)

    async def send(self, body: bytes) -> BareResult:
        """Send a message and wait for its acknowledgement."""
        if self._transport.is_closing():
            raise ConnectionError("The bare server closed the connection.")
        count = self._count = self._count + 1
        started = time.monotonic()
        message_id = f"{self._id_prefix}{count & 0xFFFFFFFF:08X}"
        lane = self._lanes[count % len(self._lanes)]
        header = lane % (int(time.time() * 1000), 0, message_id.encode(), count)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += (_pack_prefix(4 + len(header) + len(body), len(header)), header, body)
        future: asyncio.Future[tuple[_Reply, float]] = self._loop.create_future()
        self._pending[count] = future
        reply, received_at = await future
        fields = reply.ext_fields
        if reply.code or fields.queue_id is None or fields.queue_offset is None:
            raise ConnectionError("The bare server refused a message.")
        return BareResult(
            message_id, fields.msg_id or "", fields.queue_id, fields.queue_offset, received_at - started
        )

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        """Give each acknowledgement to its waiter."""
        now = time.monotonic()
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        while end - position >= 8:
            length, header_length = _unpack_prefix(data, position)
            if end - position - 4 < length:
                break
            reply = _decode_reply(data[position + 8 : position + 8 + header_length])
            position += 4 + length
            self._pending.pop(reply.opaque).set_result((reply, now))
        self._rest = data[position:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who still waits: a lost connection is an error of the run, not a hang."""
        for future in self._pending.values():
            if not future.done():
                future.set_exception(exc or ConnectionError("The bare server closed the connection."))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def _template(topic: str, queue_id: int) -> bytes:
    header = SendMessageRequestHeaderV2(
        producer_group="benchmark", topic=topic, default_topic="TBW102", default_topic_queue_nums=4,
        queue_id=queue_id, sys_flag=0, born_timestamp=0, flag=0, properties="", reconsume_times=0, unit_mode=False,
        batch=False, broker_name="broker-a",
    )  # fmt: skip
    return send_template(header, code=RequestCode.SEND_MESSAGE_V2, flag=0, version=VERSION)
