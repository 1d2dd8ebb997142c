"""Unique ids and offset ids, against those of Java's clients and brokers."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest

from rocketmq_aio.environment import ProcessIdentity
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.wire.ids import (
    UniqueIds,
    offset_message_id,
    parse_offset_message_id,
    parse_unique_id,
    utc_month_ms,
)
from rocketmq_aio.wire.stored import host_text, parse_host

Row = dict[str, Any]
TEXT = (Path(__file__).parent / "message_id.jsonl").read_text(encoding="utf-8")
ROWS: list[Row] = [json.loads(line) for line in TEXT.splitlines()]
UNIQUE = [row for row in ROWS if row["kind"] == "unique_id"]
OFFSET = [row for row in ROWS if row["kind"] == "offset_id"]
DECODE = [row for row in ROWS if row["kind"] == "offset_id_decode"]


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def test_vectors_are_complete() -> None:
    """Every kind of vector is there: a test over an empty list would pass."""
    assert (len(UNIQUE), len(OFFSET), len(DECODE)) == (24, 8, 6)


@pytest.mark.parametrize("row", UNIQUE, ids=lambda row: row["id"])
def test_unique_id_is_parsed(row: Row) -> None:
    """Address, process id, class-loader hash, milliseconds of the month and counter are where Java writes them."""
    address, pid, salt, month_ms, counter = parse_unique_id(row["id"])
    assert (address, pid) == (packed(row["ip"]), row["pid"])
    assert (salt, month_ms, counter) == (row["class_loader_hash"], row["time_diff_ms"], row["counter"])
    earliest, latest = row["created_between_ms"]
    month_start, _ = utc_month_ms(latest)
    assert month_start == row["month_start_ms"]
    assert earliest <= month_start + month_ms <= latest


@pytest.mark.parametrize("row", UNIQUE, ids=lambda row: row["id"])
def test_unique_id_is_generated(row: Row) -> None:
    """From the same parts the generator makes the very text that Java made."""
    identity = ProcessIdentity(address=packed(row["ip"]), pid=row["process_pid"], host=row["ip"])
    ids = UniqueIds(identity, salt=row["class_loader_hash"], counter_start=row["counter"], month_ms=utc_month_ms)
    # The middle of the millisecond: a float cannot hold its start exactly.
    assert ids.next_id((row["month_start_ms"] + row["time_diff_ms"] + 0.5) / 1000) == row["id"]


@pytest.mark.parametrize("row", OFFSET, ids=lambda row: row["id"])
def test_offset_id(row: Row) -> None:
    """Offset ids are made and read as by Java, for IPv4, IPv6 and the extremes of port and offset."""
    address = packed(row["ip"])
    assert offset_message_id(address, row["port"], row["offset"]) == row["id"]
    assert parse_offset_message_id(row["id"]) == (address, row["port"], row["decoded_offset"])
    assert parse_host(row["decoded_host"]) == (address, row["port"]) == parse_host(host_text(address, row["port"]))


@pytest.mark.parametrize("row", DECODE, ids=lambda row: row["id"] or "empty")
def test_offset_id_of_other_forms(row: Row) -> None:
    """What Java refuses is refused; lower case is read; what is not hex is refused, where Java reads nonsense."""
    if "error" in row or not set(row["id"].upper()) <= set("0123456789ABCDEF"):
        with pytest.raises(LocalProtocolError, match="32 or 56"):
            parse_offset_message_id(row["id"])
    else:
        address, port = parse_host(row["decoded_host"])
        assert parse_offset_message_id(row["id"]) == (address, port, row["decoded_offset"])
