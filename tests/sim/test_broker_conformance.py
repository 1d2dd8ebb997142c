"""What Java clients sent to a 5.3.3 broker, sent to a simulated one: the answers are of the same kind.

The frames were captured between Apache's programs. Codes, names of ext fields, remarks and the presence of a body are
compared, and those fields that do not depend on what the captured broker had stored before.
"""

from __future__ import annotations

import base64
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker_sim.cluster import Cluster
from broker_sim.requests.dispatch import BROKER_HANDLERS
from broker_sim.worlds.runner import run_virtual
from rocketmq_aio.codes import FLAG_ONEWAY, RequestCode
from rocketmq_aio.environment import Environment
from rocketmq_aio.wire.frame import RemotingCommand
from rocketmq_aio.wire.stored import decode_many
from tests.support.brokers import send_fields
from tests.support.raw_client import RawClient

TRAFFIC = Path(__file__).parents[1] / "golden" / "traffic"

TOPICS = {"VecTopic": 4, "OneQueueTopic": 1, "EmptyTopic": 1, "t" * 127: 4}
#: What the simulator does not do, by what the client was doing: delays, creation of topics by sends, waiting pulls, the
#: restricted port.
NOT_SIMULATED = (
    "delay", "timer", "auto-create", "retry-unknown-group", "long-poll-woken", "vip-port", "no-permission-topic",
)  # fmt: skip
#: Ext fields whose values are the same whatever was stored before.
SAME = {"transactionId", "TRACE_ON", "MSG_REGION", "IS_SUPPORT_HEART_BEAT_V2", "suggestWhichBrokerId", "topicSysFlag",
        "groupSysFlag", "forbiddenType"}  # fmt: skip
RUN = re.compile(r"order=(true|false)|127\.0\.0\.1:\d+")


def read(name: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in (TRAFFIC / f"{name}.jsonl").read_bytes().splitlines()]


def frame_of(line: dict[str, Any]) -> bytes:
    return bytes.fromhex(line["hex"]) if "hex" in line else base64.b64decode(line["base64"])


def is_replayed(line: dict[str, Any]) -> bool:
    return (
        line["direction"] == "client->broker"
        and line["kind"] != "response"
        and (line["code"] in BROKER_HANDLERS or line["code"] not in iter(RequestCode))
        and not any(word in line["session"] for word in NOT_SIMULATED)
        and "SQL92" not in str(line["extFields"])  # the captured broker had SQL filters switched on
    )


def compare(line: dict[str, Any], expected: dict[str, Any], answer: RemotingCommand) -> None:
    """Hold an answer against the captured one."""
    fields, others = answer.ext_fields or {}, expected["extFields"] or {}
    assert answer.code == expected["code"]
    assert (answer.ext_fields is None) == (expected["extFields"] is None)
    assert fields.keys() == others.keys()
    generated = "transactionId" in fields and "UNIQ_KEY" not in str(line["extFields"])
    same = SAME - ({"transactionId"} if generated else set())
    for field in fields.keys() & same:
        assert fields[field] == others[field]
    assert bool(answer.body) == (expected["body_length"] > 0)
    assert (answer.version, answer.language) == (expected["version"], 0)
    if expected["remark"] and answer.code not in (0, 1):
        # The captured topic had been made an order topic by then, and clients came from other ports.
        remark, other = (RUN.sub("", str(text)) for text in (answer.remark, expected["remark"]))
        assert remark == other


@pytest.mark.parametrize("name", ["5.3.3-producer", "5.3.3-errors", "5.3.3-pull"])
def test_replayed_session(name: str) -> None:
    """Every request that the simulator serves gets the answer that a real broker gave, in kind and in words."""
    lines = {line["seq"]: line for line in read(name)}
    compared: list[str] = []

    async def main(environment: Environment) -> None:
        async with Cluster(environment=environment, topics=TOPICS) as cluster, AsyncExitStack() as clients:
            cluster.create_topic("WriteOnlyTopic", permission=2)
            address = cluster.broker("broker-a").address
            by_connection: dict[int, RawClient] = {}
            async with RawClient(environment, address) as before:
                for _ in range(3):  # so many messages were in this queue when the capture of pulls began
                    await before.call(RequestCode.SEND_MESSAGE_V2, send_fields(b="OneQueueTopic", e=0), b"earlier")
            for line in filter(is_replayed, lines.values()):
                client = by_connection.get(line["conn"])
                if client is None:
                    client = await clients.enter_async_context(RawClient(environment, address))
                    by_connection[line["conn"]] = client
                if line["flag"] & FLAG_ONEWAY:
                    client.transport.write(frame_of(line))
                    continue
                answer = await client.exchange(frame_of(line), line["opaque"])
                try:
                    compare(line, lines[line["pair"]], answer)
                except AssertionError as error:
                    error.add_note(f"{line['session']}, seq {line['seq']}")
                    raise
                compared.append(line["session"])

    run_virtual(main)
    assert len(compared) >= {"5.3.3-producer": 15, "5.3.3-errors": 20, "5.3.3-pull": 30}[name]


def test_stored_message_is_the_one_that_java_stores() -> None:
    """A captured send becomes the record that a real broker gave to a pull, but for times, places and order."""
    lines = read("5.3.3-pull")
    pulled = next(line for line in lines if line["session"] == "pull/found" and line.get("request_code") == 11)
    theirs = decode_many(frame_of(pulled)[-pulled["body_length"] :])
    sends = [line for line in lines if line["session"] == "pull/prepare" and line["code"] == 310]

    async def main(environment: Environment) -> None:
        async with Cluster(environment=environment, topics=TOPICS) as cluster:
            async with RawClient(environment, cluster.broker("broker-a").address) as client:
                for line in sends:
                    await client.exchange(frame_of(line), line["opaque"])
            ours = {message.message_id: message for message in cluster.messages("OneQueueTopic")}
        for stored in theirs:
            properties = dict(pair.split("\x01") for pair in stored.property_string.rstrip("\x02").split("\x02"))
            message = ours[properties["UNIQ_KEY"]]
            assert message.properties == properties
            assert len(message.property_string) == len(stored.property_string)
            assert (message.body, message.body_crc, message.flag) == (stored.body, stored.body_crc, stored.flag)
            assert (message.sys_flag, message.reconsume_times) == (stored.sys_flag, stored.reconsume_times)
            assert (message.topic, message.born_timestamp_ms) == (stored.topic, stored.born_timestamp_ms)

    assert len(theirs) == 2
    run_virtual(main)
