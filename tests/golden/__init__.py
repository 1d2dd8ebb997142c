"""Bytes of Apache's own implementation as data: produced by its classes, or captured between its client and servers.

The files are kept as they are. `read` gives their lines, `frame` the whole frame of a line.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec

from rocketmq_aio.wire.bodies import (
    BrokerData,
    DataVersion,
    HeartbeatData,
    RegisterBrokerBody,
    TopicConfig,
    TopicConfigAndMappingSerializeWrapper,
    TopicConfigSerializeWrapper,
    TopicRouteData,
)

HERE = Path(__file__).parent


def read(name: str) -> list[dict[str, Any]]:
    """The lines of a file, by its name below this directory."""
    return [msgspec.json.decode(line) for line in (HERE / name).read_bytes().splitlines()]


def frame(line: dict[str, Any], field: str = "frame") -> bytes:
    """The bytes of `<field>_hex` or `<field>_base64`; with an empty name, of `hex` or `base64`."""
    prefix = f"{field}_" if field else ""
    encoded = line.get(f"{prefix}hex")
    return base64.b64decode(line[f"{prefix}base64"]) if encoded is None else bytes.fromhex(encoded)


def name(line: dict[str, Any]) -> str:
    """What a test calls a line."""
    origin = line["origin"].removeprefix("hand-made, read by ").removeprefix("java ")
    return " ".join(filter(None, (line["name"], line.get("serialize"), origin)))


def as_4_9_7(value: Any) -> Any:
    """The body itself, now without what 5.x added."""
    if isinstance(value, TopicRouteData):
        for broker in value.broker_datas:
            as_4_9_7(broker)
    elif isinstance(value, BrokerData):
        value.enable_acting_master = None
    elif isinstance(value, HeartbeatData):
        value.heartbeat_fingerprint = value.without_sub = None
    elif isinstance(value, DataVersion):
        value.state_version = None
    elif isinstance(value, TopicConfig):
        value.attributes = None
    elif isinstance(value, RegisterBrokerBody):
        as_4_9_7(value.topic_config_serialize_wrapper)
    elif isinstance(value, TopicConfigSerializeWrapper):
        as_4_9_7(value.data_version)
        for config in value.topic_config_table.values():
            as_4_9_7(config)
        if isinstance(value, TopicConfigAndMappingSerializeWrapper):
            value.topic_queue_mapping_detail_map = value.topic_queue_mapping_info_map = None
            value.mapping_data_version = None
    return value
