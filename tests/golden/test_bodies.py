"""Bodies that Java wrote in both of its dialects, and texts that it accepts."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from rocketmq_aio.codes import version_ordinal
from rocketmq_aio.wire import bodies
from rocketmq_aio.wire.bodies import (
    TopicRouteData,
    decode_json,
    decode_register_compressed,
    encode_json,
    encode_register_compressed,
    encode_route,
)
from tests.golden import as_4_9_7, name, read

LINES = [line for line in read("bodies.jsonl") if hasattr(bodies, line.get("class") or "-")]
WRITTEN = [line for line in LINES if "json_standard" in line]
READ = [line for line in LINES if line.get("kind") == "read"]
COMPRESSED = [line for line in LINES if line.get("kind") == "binary"]

#: Members that Java's writer adds, and what it says of them.
NOT_WRITTEN = {"topicMessageType": '"topicMessageType":"NORMAL",'}
"""5.4.0's standard form, which goes to no peer, has this derived member of a topic; its default form does not."""
NORMALIZED = {
    "route-null-members": "null is read as the default, of which Java keeps null",
    "heartbeat-go": "an enum name in another case is kept; Java reads it as its constant",
}


def read_back(line: dict[str, Any], text: str) -> Any:
    """A body of a line's class, with only the members that its Java knows."""
    value = decode_json(getattr(bodies, line["class"]), text.encode())
    return as_4_9_7(value) if "4.9.7" in line["origin"] and "5.3.3" not in line["origin"] else value


@pytest.mark.parametrize("line", WRITTEN, ids=name)
def test_both_dialects_say_the_same(line: dict[str, Any]) -> None:
    """What Java writes by default, and as standard JSON, is read as the same body; references are resolved."""
    assert read_back(line, line["json_default"]) == read_back(line, line["json_standard"])


@pytest.mark.parametrize("line", WRITTEN, ids=name)
def test_standard_json_is_written_as_java_does(line: dict[str, Any]) -> None:
    """A body is written with the bytes of Java's standard form, and a route also with those of the default form."""
    value = read_back(line, line["json_default"])
    is_route = isinstance(value, TopicRouteData)
    if line["name"] == "route-shared-instance-ref":
        assert value.broker_datas == [value.broker_datas[0]] * 2
        return  # written without the reference
    if line["name"] == "route-empty" and line["origin"] == "java 4.9.7":
        assert value == TopicRouteData()
        return  # 4.9.7's class, unlike its name server, leaves filterServerTable out
    standard = line["json_standard"].replace(NOT_WRITTEN["topicMessageType"], "")
    assert (encode_route(value, True) if is_route else encode_json(value)).decode() == standard
    if is_route:
        assert encode_route(value, False).decode() == line["json_default"]


@pytest.mark.parametrize("line", READ, ids=name)
def test_what_java_accepts_is_read(line: dict[str, Any]) -> None:
    """Texts of other clients are read as Java reads them, up to the named differences."""
    assert line["accepted"]
    value = read_back(line, line["text"])
    written = (encode_route(value, False) if isinstance(value, TopicRouteData) else encode_json(value)).decode()
    if line["name"] in NORMALIZED:
        assert written != line["reencoded_default"]
    elif line["name"] == "route-missing-members" and line["origin"].endswith("4.9.7"):
        assert value == TopicRouteData()
    else:
        assert written == line["reencoded_default"]


@pytest.mark.parametrize("line", COMPRESSED, ids=name)
def test_compressed_registrations(line: dict[str, Any]) -> None:
    """A compressed registration is read as its plain text, and written so that it inflates to Java's bytes."""
    version = version_ordinal(line["origin"].removeprefix("java "))
    body = decode_register_compressed(bytes.fromhex(line["compressed_hex"]), version)
    plain = read_back(line, line["plain_text"]).topic_config_serialize_wrapper
    wrapper = body.topic_config_serialize_wrapper
    if "4.9.7" in line["origin"]:
        as_4_9_7(body)
    assert wrapper.topic_config_table == plain.topic_config_table
    assert list(wrapper.topic_config_table) == ["TopicTest", "Other"]
    assert wrapper.data_version == plain.data_version
    assert body.filter_server_list == []
    assert zlib.decompress(encode_register_compressed(body, version)).hex() == line["inflated_hex"]


def test_nothing_is_left_out() -> None:
    """Every class of bodies with a wire form of its own occurs in the vectors."""
    checked = {line["class"] for line in LINES}
    assert {"TopicRouteData", "HeartbeatData", "RegisterBrokerBody", "KVTable", "TopicList"} <= checked
    assert {line["name"] for line in READ} >= set(NORMALIZED)
