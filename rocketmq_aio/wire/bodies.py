"""The JSON bodies of requests and responses, and the compressed body of a broker's registration.

Bodies are read in standard JSON and in the dialect of fastjson, in which Java writes numeric keys bare, objects as
keys, and a second occurrence of an object as a reference. They are written in standard JSON without white space,
members in alphabetical order and None left out; only a route can be written in the dialect. What members mean is for
others to know.

Source: `RemotingSerializable.java`, `RegisterBrokerBody.java`, `TopicConfig.java`, the classes of the same names below
`protocol/route`, `protocol/heartbeat` and `protocol/body` (5.3.3), and what fastjson 1.2.83 makes of them.
Differs: null is read as the member's default. A reference to an object that itself has references is read as null.
Members that only 5.x has may be None, to write what 4.9.7 writes.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import msgspec
from msgspec import field

from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.wire.dialect import DIALECT_BYTES_MAX, read_dialect
from rocketmq_aio.wire.headers import Int, Long

__all__ = [
    "BrokerData", "ConsumerData", "DataVersion", "HeartbeatData", "KVTable", "ProducerData", "QueueData",
    "RegisterBrokerBody", "SubscriptionData", "TopicConfig", "TopicConfigAndMappingSerializeWrapper",
    "TopicConfigSerializeWrapper", "TopicList", "TopicRouteData", "decode_json", "decode_register_compressed",
    "encode_json", "encode_register_compressed", "encode_route",
]

T = TypeVar("T")

_INFLATED_BYTES_MAX = 64 * 2**20
_V5_0_0 = 413


class QueueData(msgspec.Struct, rename="camel"):
    """The queues of a topic on one broker name. `perm`: see `Permission`."""

    broker_name: str = ""
    read_queue_nums: Int = 0
    write_queue_nums: Int = 0
    perm: Int = 0
    topic_sys_flag: Int = 0


class BrokerData(msgspec.Struct, rename="camel"):
    """The addresses of one broker name: broker id → `host:port`. Id 0 is the master."""

    cluster: str = ""
    broker_name: str = ""
    broker_addrs: dict[Long, str] = field(default_factory=dict)
    enable_acting_master: bool | None = False
    zone_name: str | None = None


class TopicRouteData(msgspec.Struct, rename="camel"):
    """Where a topic's queues are (GET_ROUTEINFO_BY_TOPIC)."""

    broker_datas: list[BrokerData] = field(default_factory=list)
    queue_datas: list[QueueData] = field(default_factory=list)
    filter_server_table: dict[str, list[str]] = field(default_factory=dict)
    order_topic_conf: str | None = None
    topic_queue_mapping_by_broker: dict[str, Any] | None = None


class ProducerData(msgspec.Struct, rename="camel"):
    """One producer group of a client."""

    group_name: str = ""


class SubscriptionData(msgspec.Struct, rename="camel"):
    """What a consumer group wants of a topic."""

    topic: str = ""
    sub_string: str | None = None
    sub_version: Long = 0
    tags_set: list[str] = field(default_factory=list)
    code_set: list[Int] = field(default_factory=list)
    expression_type: str | None = "TAG"
    class_filter_mode: bool = False


class ConsumerData(msgspec.Struct, rename="camel"):
    """One consumer group of a client. An enum name that Java does not know is kept as it is."""

    group_name: str = ""
    consume_type: str | None = None
    message_model: str | None = None
    consume_from_where: str | None = None
    subscription_data_set: list[SubscriptionData] = field(default_factory=list)
    unit_mode: bool = False


class HeartbeatData(msgspec.Struct, rename="camel"):
    """What a client tells each broker (HEART_BEAT)."""

    client_id: str = field(default="", name="clientID")
    producer_data_set: list[ProducerData] = field(default_factory=list)
    consumer_data_set: list[ConsumerData] = field(default_factory=list)
    heartbeat_fingerprint: Int | None = 0
    without_sub: bool | None = False


class DataVersion(msgspec.Struct, rename="camel"):
    """The version of a table: equal only if all three are. `timestamp` in milliseconds since 1970."""

    timestamp: Long = 0
    counter: Long = 0
    state_version: Long | None = 0


class TopicConfig(msgspec.Struct, rename="camel"):
    """A topic as its broker knows it."""

    topic_name: str = ""
    read_queue_nums: Int = 16
    write_queue_nums: Int = 16
    perm: Int = 6
    topic_filter_type: str | None = "SINGLE_TAG"
    topic_sys_flag: Int = 0
    order: bool = False
    attributes: dict[str, str] | None = field(default_factory=dict)


class TopicConfigSerializeWrapper(msgspec.Struct, rename="camel"):
    """All topics of a broker, by name."""

    topic_config_table: dict[str, TopicConfig] = field(default_factory=dict)
    data_version: DataVersion = field(default_factory=DataVersion)


class TopicConfigAndMappingSerializeWrapper(TopicConfigSerializeWrapper, rename="camel"):
    """The same with the mappings of static topics, which are kept as plain values."""

    topic_queue_mapping_info_map: dict[str, Any] | None = field(default_factory=dict)
    topic_queue_mapping_detail_map: dict[str, Any] | None = field(default_factory=dict)
    mapping_data_version: DataVersion | None = field(default_factory=DataVersion)


class RegisterBrokerBody(msgspec.Struct, rename="camel"):
    """What a broker tells each name server (REGISTER_BROKER)."""

    topic_config_serialize_wrapper: TopicConfigAndMappingSerializeWrapper = field(
        default_factory=TopicConfigAndMappingSerializeWrapper
    )
    filter_server_list: list[str] = field(default_factory=list)


class KVTable(msgspec.Struct):
    """A map of texts."""

    table: dict[str, str] = field(default_factory=dict)


class TopicList(msgspec.Struct, rename="camel"):
    """Names of topics."""

    topic_list: list[str] = field(default_factory=list)
    broker_addr: str | None = None


def encode_json(value: Any) -> bytes:
    """Compact standard JSON: members and keys in order, None left out.

    Args:
        value: a struct of this module, or what JSON has.

    Raises:
        LocalProtocolError: a text has a lone surrogate, or a number is beyond 64 bits.
    """
    try:
        return msgspec.json.encode(_plain(value))
    except (ValueError, OverflowError, RecursionError) as error:
        raise LocalProtocolError(f"A body cannot be written: {_reason(error)}.") from error


def encode_route(route: TopicRouteData, standard: bool) -> bytes:
    """A route as name servers write it.

    Args:
        route: what to write.
        standard: quoted keys, pure ASCII and escaped slashes (for peers of version 401 and above, or that ask for it);
            otherwise the dialect with bare numeric keys.

    Raises:
        LocalProtocolError: see `encode_json`.
    """
    text = encode_json(route).decode()
    if standard:
        return _NOT_BROWSER.sub(lambda found: _browser_escape(found[0]), text).encode()
    # A quote inside a string is escaped, so these are keys.
    return _NUMERIC_KEY.sub(r"\1:", text).encode()


def decode_json(cls: type[T], body: bytes) -> T:
    """A body as an object of `cls`; unknown members are ignored, numbers may be quoted.

    Raises:
        LocalProtocolError: it is neither JSON nor the dialect, or a member has the wrong type.
    """
    failed: Exception | None = None
    if b'"$ref"' not in body:
        decode = _decoders.get(cls)
        if decode is None:
            decode = _decoders[cls] = msgspec.json.Decoder(cls, strict=False).decode
        try:
            return cast(T, decode(body))
        except (ValueError, RecursionError) as error:
            failed = error
    if len(body) > DIALECT_BYTES_MAX:
        reason = "it is too large for the dialect" if failed is None else _reason(failed)
        raise LocalProtocolError(f"A body of {len(body)} bytes cannot be read: {reason}.") from failed
    try:
        return msgspec.convert(read_dialect(body.decode()), cls, strict=False, str_keys=True)
    except (ValueError, OverflowError, RecursionError) as error:
        raise LocalProtocolError(f"A body of {len(body)} bytes cannot be read: {_reason(error)}.") from error


def encode_register_compressed(body: RegisterBrokerBody, version: int) -> bytes:
    """The compressed body of REGISTER_BROKER.

    Args:
        body: what to register.
        version: the version ordinal of the request; from 413 (5.0.0) on, topics have attributes, and mappings follow.

    Raises:
        LocalProtocolError: see `encode_json`.
    """
    wrapper = body.topic_config_serialize_wrapper
    configs = wrapper.topic_config_table.values()
    parts = [*_sized(encode_json(wrapper.data_version)), _COUNT.pack(len(configs))]
    for config in configs:
        words: list[object] = [config.topic_name, config.read_queue_nums, config.write_queue_nums, config.perm]
        words.append(config.topic_filter_type)
        if version >= _V5_0_0:
            words.append(encode_json(config.attributes or {}).decode())
        try:
            parts += _sized(" ".join(map(str, words)).encode())
        except UnicodeError as error:
            raise LocalProtocolError("A topic's name cannot be written: it has a lone surrogate.") from error
    parts += _sized(encode_json(body.filter_server_list))
    if version >= _V5_0_0:
        infos = wrapper.topic_queue_mapping_info_map or {}
        parts.append(_COUNT.pack(len(infos)))
        for info in infos.values():
            parts += _sized(encode_json(info))
    return zlib.compress(b"".join(parts), 9)


def decode_register_compressed(data: bytes, version: int) -> RegisterBrokerBody:
    """What `encode_register_compressed` writes; the attributes of topics may be missing.

    Raises:
        LocalProtocolError: it cannot be read, or it is larger than 64 MiB uncompressed.
    """
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(data, _INFLATED_BYTES_MAX)
    except zlib.error as error:
        raise LocalProtocolError(f"The body of a registration cannot be uncompressed: {error}.") from error
    if not inflater.eof:
        raise LocalProtocolError("The body of a registration is too large or cut off.")
    reader = _SizedReader(inflated)
    wrapper = TopicConfigAndMappingSerializeWrapper(data_version=decode_json(DataVersion, reader.part()))
    for _ in range(reader.count()):
        config = _topic_config(reader.part())
        wrapper.topic_config_table[config.topic_name] = config
    servers = decode_json(list[str], reader.part())
    if version >= _V5_0_0:
        infos: dict[str, Any] = {}
        for _ in range(reader.count()):
            info = decode_json(dict[str, Any], reader.part())
            infos[str(info.get("topic"))] = info
        wrapper.topic_queue_mapping_info_map = infos
    return RegisterBrokerBody(wrapper, servers)


_COUNT = struct.Struct(">i")
_NUMERIC_KEY = re.compile(r'(?<=[{,])"(-?[0-9]+)":', re.ASCII)
_NOT_BROWSER = re.compile(r"[^\x00-\x7e]|/")
_decoders: dict[Any, Callable[[bytes], Any]] = {}


def _browser_escape(character: str) -> str:
    if character == "/":
        return "\\/"
    units = character.encode("utf-16-be").hex().upper()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "text that is not UTF-8"
    return str(error).removesuffix(".")


def _plain(value: Any) -> Any:
    """Structs as dicts, everything in order, nothing None."""
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return {name: _plain(member) for name, key in sorted(names) if (member := getattr(value, key)) is not None}
    if isinstance(value, dict):
        return {str(key): _plain(value[key]) for key in sorted(value) if value[key] is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _sized(part: bytes) -> Iterable[bytes]:
    return _COUNT.pack(len(part)), part


class _SizedReader:
    """Reads parts of announced length."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def count(self) -> int:
        """A number that is not negative."""
        try:
            (number,) = _COUNT.unpack_from(self._data, self._position)
        except struct.error as error:
            raise LocalProtocolError("The body of a registration is cut off.") from error
        if number < 0:
            raise LocalProtocolError(f"The body of a registration announces a length of {number}.")
        self._position += 4
        return int(number)

    def part(self) -> bytes:
        """The bytes behind their length."""
        size = self.count()
        start = self._position
        self._position = start + size
        if self._position > len(self._data):
            raise LocalProtocolError(f"The body of a registration announces a part of {size} bytes, and ends before.")
        return self._data[start : self._position]


def _topic_config(part: bytes) -> TopicConfig:
    try:
        words = part.decode().split(" ", 5)
        name, *numbers = words[:4]
        read, write, perm = (int(number) for number in numbers)
        filter_type = words[4]
    except (ValueError, IndexError) as error:
        raise LocalProtocolError("A topic of a registration cannot be read.") from error
    attributes = decode_json(dict[str, str], words[5].encode()) if len(words) > 5 else {}
    return TopicConfig(name, read, write, perm, filter_type, attributes=attributes)
