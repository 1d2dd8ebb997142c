"""Blocking requests to a name server or broker, one connection each: for tests, beside the client that they test.

Written apart from `rocketmq_aio.wire` on purpose, so that a mistake there cannot hide itself here. JSON headers only.
It returns stored messages as the raw bytes that the broker sent, and refuses to know how to decode them.

Source: RocketMQ 5.3.3 `RemotingCommand`, `PullMessageRequestHeader`, `CreateTopicRequestHeader`, `TopicRouteData`.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

PULL_MESSAGE = 11
UPDATE_AND_CREATE_TOPIC = 17
UPDATE_BROKER_CONFIG = 25
GET_ROUTEINFO_BY_TOPIC = 105
SEND_MESSAGE_V2 = 310

SUCCESS = 0
TOPIC_NOT_EXIST = 17
PULL_NOT_FOUND = 19
PULL_RETRY_IMMEDIATELY = 20
PULL_OFFSET_MOVED = 21

_VERSION = 479  # 5.3.3; from 4.9.4 on a name server answers with standard JSON
_OPAQUE = 1
_RESPONSE_FLAG = 1
_SUBSCRIPTION_FLAG = 4
_POLL_S = 0.1


class Answer(NamedTuple):
    """A decoded response frame; `remark` is empty when absent."""

    code: int
    remark: str
    fields: Mapping[str, str]
    body: bytes


class RefusedError(Exception):
    """A server answered with a code that the request does not expect. The text has the address, code and remark."""


def encode_request(code: int, fields: Mapping[str, str | int], body: bytes = b"") -> bytes:
    """Build the whole frame of one request with a JSON header."""
    header = json.dumps(
        {
            "code": code,
            "extFields": {name: str(value) for name, value in fields.items()},
            "flag": 0,
            "language": "JAVA",
            "opaque": _OPAQUE,
            "serializeTypeCurrentRPC": "JSON",
            "version": _VERSION,
        },
        separators=(",", ":"),
    ).encode()
    return struct.pack(">ii", 4 + len(header) + len(body), len(header)) + header + body


def call(addr: str, code: int, fields: Mapping[str, str | int], body: bytes = b"", *, timeout: float = 10.0) -> Answer:
    """Send one request to `addr` ("host:port") on a connection of its own and wait for its answer.

    Args:
        timeout: seconds for connecting, and again for each wait on the socket.

    Raises:
        OSError: no connection, connection lost, or nothing came in time.
        ValueError: the answer is not a frame with a JSON header.
    """
    host, _, port = addr.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(encode_request(code, fields, body))
        while True:
            header, answer_body = _read_frame(connection)
            # A broker may send requests of its own; they have an opaque of their own.
            if header["flag"] & _RESPONSE_FLAG and header["opaque"] == _OPAQUE:
                remark, ext_fields = header.get("remark") or "", header.get("extFields") or {}
                return Answer(header["code"], remark, ext_fields, answer_body)


def _read_frame(connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    length, word = struct.unpack(">ii", _read_exactly(connection, 8))
    if word >> 24:
        raise ValueError(f"the header's serialize type is {word >> 24}, and only JSON (0) is read here")
    payload = _read_exactly(connection, length - 4)
    return json.loads(payload[:word]), payload[word:]


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    chunks = bytearray()
    while len(chunks) < size:
        chunk = connection.recv(size - len(chunks))
        if not chunk:
            raise ConnectionResetError("the server closed the connection in the middle of an answer")
        chunks += chunk
    return bytes(chunks)


def _checked(addr: str, answer: Answer) -> Answer:
    if answer.code != SUCCESS:
        raise RefusedError(f"{addr} answered with code {answer.code}: {answer.remark}")
    return answer


def fetch_route(namesrv: str, topic: str) -> dict[str, Any] | None:
    """Ask one name server for a topic's route: the parsed `TopicRouteData`, or None when it does not know the topic.

    Raises:
        RefusedError: the name server answered with another code.
        OSError: as for `call`.
    """
    answer = call(namesrv, GET_ROUTEINFO_BY_TOPIC, {"topic": topic, "acceptStandardJsonOnly": "true"})
    if answer.code == TOPIC_NOT_EXIST:
        return None
    route: dict[str, Any] = json.loads(_checked(namesrv, answer).body)
    return route


def create_topic(broker_addr: str, topic: str, queues: int) -> None:
    """Create `topic` on one broker, readable and writable, with `queues` queues. The name server hears of it later.

    Raises:
        RefusedError: the broker does not want this topic.
        OSError: as for `call`.
    """
    fields: dict[str, str | int] = {
        "topic": topic,
        "defaultTopic": "TBW102",
        "readQueueNums": queues,
        "writeQueueNums": queues,
        "perm": 6,
        "topicFilterType": "SINGLE_TAG",
        "topicSysFlag": 0,
        "order": "false",
    }
    _checked(broker_addr, call(broker_addr, UPDATE_AND_CREATE_TOPIC, fields))


def register_broker(broker_addr: str) -> None:
    """Make a real broker register itself and its topics at its name servers now: what setting a permission leads to.

    Raises:
        RefusedError: the broker does not accept the setting.
        OSError: as for `call`.
    """
    _checked(broker_addr, call(broker_addr, UPDATE_BROKER_CONFIG, {}, b"brokerPermission=6\n"))


def pull(broker_addr: str, topic: str, queue_id: int, offset: int, max_messages: int) -> bytes:
    """Pull at most `max_messages` messages from `offset` of one queue, without waiting for new ones.

    Returns:
        The stored messages, one after the other, byte for byte as sent; empty when there are none at `offset`.

    Raises:
        RefusedError: the broker refuses the pull.
        OSError: as for `call`.
    """
    return _pull(broker_addr, topic, queue_id, offset, max_messages)[0]


def _pull(broker_addr: str, topic: str, queue_id: int, offset: int, max_messages: int) -> tuple[bytes, int]:
    fields: dict[str, str | int] = {
        "consumerGroup": "interop_reader",
        "topic": topic,
        "queueId": queue_id,
        "queueOffset": offset,
        "maxMsgNums": max_messages,
        "sysFlag": _SUBSCRIPTION_FLAG,
        "commitOffset": 0,
        "suspendTimeoutMillis": 0,
        "subscription": "*",
        "subVersion": 0,
        "expressionType": "TAG",
    }
    answer = call(broker_addr, PULL_MESSAGE, fields)
    if answer.code in (PULL_NOT_FOUND, PULL_RETRY_IMMEDIATELY, PULL_OFFSET_MOVED):
        return b"", offset
    _checked(broker_addr, answer)
    return answer.body, int(answer.fields["nextBeginOffset"])


def read_topic(namesrv: str, topic: str, count: int, *, timeout: float = 15.0) -> dict[tuple[str, int], bytes]:
    """Read a topic from its beginning until `count` messages are there, by queue offsets alone.

    A broker shows a message to readers a moment after it has acknowledged it; one-way messages may come later still.

    Args:
        count: the messages expected in all queues of all brokers together. More than `count` are returned too.
        timeout: seconds until the number must be reached.

    Returns:
        (broker name, queue id) → the stored messages of that queue as `pull` returns them, in queue order.

    Raises:
        TimeoutError: fewer messages were there in the end; the text says how many in each queue.
        RefusedError, OSError: as for `fetch_route` and `pull`.
    """
    route = fetch_route(namesrv, topic)
    if route is None:
        raise RefusedError(f"{namesrv} does not know topic {topic}")
    masters = {broker["brokerName"]: broker["brokerAddrs"]["0"] for broker in route["brokerDatas"]}
    queues = [(data["brokerName"], queue) for data in route["queueDatas"] for queue in range(data["readQueueNums"])]
    stored = dict.fromkeys(queues, b"")
    offsets = dict.fromkeys(queues, 0)
    deadline = time.monotonic() + timeout
    while True:
        grown = False
        for name, queue in queues:
            body, after = _pull(masters[name], topic, queue, offsets[name, queue], 32)
            grown = grown or bool(body)
            stored[name, queue] += body
            offsets[name, queue] = after
        if grown:
            continue
        if sum(offsets.values()) >= count:
            return stored
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{topic} has fewer than {count} messages after {timeout} s; by queue: {offsets}")
        time.sleep(_POLL_S)
