"""Unique ids never repeat, whatever the clock does; ids of other forms are refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_aio.environment import ProcessIdentity
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.wire.ids import (
    UniqueIds,
    local_month_ms,
    offset_message_id,
    parse_offset_message_id,
    parse_unique_id,
    utc_month_ms,
)

V4 = ProcessIdentity(address=b"\xc0\x00\x02\x07", pid=0x12345, host="192.0.2.7")
V6 = ProcessIdentity(address=bytes.fromhex("20010db8000000000000000000000001"), pid=7, host="2001:db8::1")
NOW = datetime(2026, 11, 25, 8, tzinfo=UTC).timestamp()


def unique_ids(identity: ProcessIdentity = V4, salt: int = 0xCAFEBABE, counter_start: int = 0) -> UniqueIds:
    return UniqueIds(identity, salt=salt, counter_start=counter_start, month_ms=utc_month_ms)


def ms_of_month(text: str) -> int:
    return parse_unique_id(text)[3]


def test_layout() -> None:
    """Address, low 16 bits of the process id, salt, milliseconds of the month, counter: upper-case hex."""
    ids = unique_ids(counter_start=0xABCE)
    month_start = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    first, second = ids.next_id(month_start + 1.0005), ids.next_id(month_start + 1.0005)
    assert first == "C0000207" "2345" "CAFEBABE" "000003E8" "ABCE"
    assert second == "C0000207" "2345" "CAFEBABE" "000003E8" "ABCF"
    assert parse_unique_id(first) == (V4.address, 0x2345, 0xCAFEBABE, 1000, 0xABCE)


def test_ipv6_layout() -> None:
    """With an address of 16 bytes an id has 56 digits."""
    text = unique_ids(V6).next_id(NOW)
    assert len(text) == 56
    assert parse_unique_id(text)[:3] == (V6.address, 7, 0xCAFEBABE)


def test_address_of_another_size_is_refused() -> None:
    """An address has 4 or 16 bytes; the text names both and what was given."""
    with pytest.raises(LocalProtocolError, match="5 bytes, not 4 or 16"):
        unique_ids(ProcessIdentity(address=b"12345", pid=1, host="?"))


def test_counter_runs_on() -> None:
    """The counter goes on through a new millisecond, and from FFFF to 0000, as in Java."""
    ids = unique_ids(counter_start=0xFFFE)
    counters = [parse_unique_id(ids.next_id(NOW + step / 1000))[4] for step in (0, 0, 0, 1, 2, 2)]
    assert counters == [0xFFFE, 0xFFFF, 0, 1, 2, 3]


@pytest.mark.parametrize("counter_start", [0, 1, 255, 256, 0x7FFF, 0xFFFF])
def test_clock_stands_still(counter_start: int) -> None:
    """More ids than the counter has values at one instant: none repeats, the time part moves on by itself, slowly."""
    ids = unique_ids(counter_start=counter_start)
    texts = [ids.next_id(NOW) for _ in range(200_000)]
    assert len(set(texts)) == len(texts)
    passed = ms_of_month(texts[-1]) - ms_of_month(texts[0])
    assert passed in (3, 4)
    # Within one time part almost all of the 65,536 values are used.
    assert ms_of_month(texts[65_536 - 256]) == ms_of_month(texts[0])


def test_clock_set_back() -> None:
    """After the clock is set back the time part stays; once the clock is past it, it follows again."""
    ids = unique_ids()
    ahead = ids.next_id(NOW + 10)
    back = [ids.next_id(NOW + step / 1000) for step in range(5000)]
    assert len({ahead, *back}) == 5001
    assert {ms_of_month(text) for text in back} == {ms_of_month(ahead)}
    assert ms_of_month(ids.next_id(NOW + 10.0015)) == ms_of_month(ahead) + 1


def test_clock_set_back_over_the_month() -> None:
    """A clock set back into the month before does not bring back that month's salt."""
    ids = unique_ids()
    december = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    salts = [parse_unique_id(ids.next_id(wall))[2] for wall in (december - 1, december + 1, december - 1)]
    assert salts[0] != salts[1] == salts[2]


def test_new_month_takes_a_new_salt() -> None:
    """The same millisecond of two months with the same counter: only the salt tells the ids apart, and it does."""
    ids = unique_ids()
    november, december = (datetime(2026, month, 1, tzinfo=UTC).timestamp() for month in (11, 12))
    first = ids.next_id(november)
    for _ in range(65_535):
        ids.next_id(november + 1)
    second = ids.next_id(december)
    old, new = parse_unique_id(first), parse_unique_id(second)
    assert (old[3], old[4]) == (new[3], new[4]) == (0, 0)
    assert first != second
    assert old[2] == 0xCAFEBABE != new[2]


def test_new_salts_are_repeatable_and_do_not_come_back() -> None:
    """The salts of a hundred years of months are the same in every run with the same first one, and all different."""
    walls = [datetime(2000 + month // 12, month % 12 + 1, 2, tzinfo=UTC).timestamp() for month in range(1200)]
    one, two = unique_ids(salt=1), unique_ids(salt=1)
    salts = [parse_unique_id(one.next_id(wall))[2] for wall in walls]
    assert salts == [parse_unique_id(two.next_id(wall))[2] for wall in walls]
    assert len(set(salts)) == 1200


def test_end_of_a_long_month() -> None:
    """After 25 days the milliseconds of the month exceed 31 bits; they are written without a sign."""
    text = unique_ids().next_id(datetime(2026, 12, 31, 23, 59, 59, 999_500, tzinfo=UTC).timestamp())
    assert ms_of_month(text) == 31 * 86_400_000 - 1 > 1 << 31


def test_salt_tells_processes_apart() -> None:
    """Two generators of one address, process id and time differ by their salts; salts are cut to 32 bits."""
    assert unique_ids(salt=1).next_id(NOW) != unique_ids(salt=2).next_id(NOW)
    assert unique_ids(salt=(1 << 32) + 5).next_id(NOW) == unique_ids(salt=5).next_id(NOW)


@given(
    st.integers(0, 0xFFFF),
    st.lists(st.tuples(st.floats(-2.0, 2.0) | st.sampled_from([0.0, -86_400.0, 86_400.0 * 40]), st.integers(1, 600))),
)
def test_ids_never_repeat(counter_start: int, steps: list[tuple[float, int]]) -> None:
    """Whatever way the clock jumps between bursts, no id repeats and (month, time part) never goes back."""
    ids, wall, texts = unique_ids(counter_start=counter_start), NOW, []
    for jump, count in steps:
        wall = max(wall + jump, 0.0)
        texts += [ids.next_id(wall) for _ in range(count)]
    assert len(set(texts)) == len(texts)
    parts = [parse_unique_id(text) for text in texts]
    for (_, _, old_salt, old_ms, old_counter), (_, _, salt, ms, counter) in pairwise(parts):
        assert counter == (old_counter + 1) % 65_536
        assert salt != old_salt or ms >= old_ms


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "0" * 54, "G" * 32, "00 " * 16, " " + "0" * 31, "０" * 32])
def test_text_of_another_form_is_refused(text: str) -> None:
    """Neither id has another length than 32 or 56, nor other characters than hexadecimal digits."""
    for parse in (parse_unique_id, parse_offset_message_id):
        with pytest.raises(LocalProtocolError, match="32 or 56 hexadecimal digits"):
            parse(text)


def test_refused_text_is_shown_in_part() -> None:
    """The error quotes the text, but not all of a long one."""
    with pytest.raises(LocalProtocolError) as caught:
        parse_unique_id("x" * 10_000)
    assert "'xxx" in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("port", "offset"), [(1 << 31, 0), (0, 1 << 63), (-(1 << 31) - 1, 0)])
def test_offset_id_that_does_not_fit(port: int, offset: int) -> None:
    """A port beyond 32 bits or an offset beyond 64 is refused by name."""
    with pytest.raises(LocalProtocolError, match=f"Port {port} or physical offset {offset}"):
        offset_message_id(b"\x7f\0\0\1", port, offset)


@pytest.mark.parametrize("port", ["00010000", "FFFFFFFF"])
def test_offset_id_with_an_impossible_port(port: str) -> None:
    """An offset id leads to a connection: its port must be one."""
    with pytest.raises(LocalProtocolError, match="from 0 to 65535"):
        parse_offset_message_id(f"7F000001{port}0000000000000000")


@pytest.fixture(params=["UTC0", "IST-5:30", "EST5EDT,M3.2.0,M11.1.0", "XST-12", "YST11"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The host's time zone, set and put back."""
    if not hasattr(time, "tzset"):
        pytest.skip("this system cannot change its time zone")
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("month", range(1, 13))
def test_local_month(zone: str, month: int) -> None:
    """A month lasts from local midnight of its first day to that of the next one's, with the offsets of those days."""
    start = int(time.mktime((2026, month, 1, 0, 0, 0, 0, 0, -1))) * 1000
    following = int(time.mktime((2026, month + 1, 1, 0, 0, 0, 0, 0, -1))) * 1000
    for wall_ms in (start, start + 1, (start + following) // 2, following - 1):
        assert local_month_ms(wall_ms) == (start, following)
    assert local_month_ms(following)[0] == following
    if zone == "UTC0":
        assert utc_month_ms(start + 1) == (start, following)
