"""Our numbers are Java's numbers."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest

from rocketmq_aio import codes
from rocketmq_aio.codes import LanguageCode, Permission, RequestCode, ResponseCode, SerializeType, SysFlag
from tests.golden import read

LINES = read("response_codes.jsonl")
ENUMS: dict[str, type[IntEnum]] = {
    "request": RequestCode,
    "response": ResponseCode,
    "system_response": ResponseCode,
    "language": LanguageCode,
    "serialize_type": SerializeType,
}
REUSED = {"DELETE_ACL_CONFIG_FAILED", "UPDATE_AND_CREATE_ACL_CONFIG_FAILED", "UPDATE_GLOBAL_WHITE_ADDRS_CONFIG_FAILED"}
"""Response codes of 4.9.7 and 5.1.4 whose numbers mean something else since 5.2."""
LATER = {"SWITCH_TIMER_ENGINE"}
"""Known to 5.4.0 only."""
SYS_FLAGS = {
    "BORN_HOST_V6": "BORNHOST_V6_FLAG",
    "COMPRESSED": "COMPRESSED_FLAG",
    "COMPRESSION_LZ4": "COMPRESSION_LZ4_TYPE",
    "COMPRESSION_MASK": "COMPRESSION_TYPE_COMPARATOR",
    "COMPRESSION_ZLIB": "COMPRESSION_ZLIB_TYPE",
    "COMPRESSION_ZSTD": "COMPRESSION_ZSTD_TYPE",
    "INNER_BATCH": "INNER_BATCH_FLAG",
    "MULTI_TAGS": "MULTI_TAGS_FLAG",
    "NEED_UNWRAP": "NEED_UNWRAP_FLAG",
    "STORE_HOST_V6": "STOREHOSTADDRESS_V6_FLAG",
    "TRANSACTION_COMMIT": "TRANSACTION_COMMIT_TYPE",
    "TRANSACTION_PREPARED": "TRANSACTION_PREPARED_TYPE",
    "TRANSACTION_ROLLBACK": "TRANSACTION_ROLLBACK_TYPE",
}


def values(kind: str, origin: str = "5.3.3") -> dict[str, Any]:
    """The constants of one kind and version."""
    return next(line["values"] for line in LINES if line["kind"] == kind and origin in line["origin"])


@pytest.mark.parametrize("line", [line for line in LINES if line["kind"] in ENUMS], ids=lambda line: line["origin"])
def test_constants_have_javas_numbers(line: dict[str, Any]) -> None:
    """Every constant of every version has its number, except those whose numbers were given away."""
    enum_class = ENUMS[line["kind"]]
    for constant, number in line["values"].items():
        if constant not in REUSED | LATER:
            assert enum_class[constant] == number


@pytest.mark.parametrize(("kind", "enum_class"), ENUMS.items())
def test_no_constant_is_made_up(kind: str, enum_class: type[IntEnum]) -> None:
    """Each of our constants is one of Java's."""
    known = {constant for line in LINES if ENUMS.get(line["kind"]) is enum_class for constant in line["values"]}
    assert set(enum_class.__members__) <= known, kind


def test_flags_have_javas_bits() -> None:
    """Permissions and system flags are Java's."""
    java = values("permission")
    assert {member.name: member.value for member in Permission} == {
        constant.removeprefix("PERM_"): bit for constant, bit in java.items() if constant.startswith("PERM_")
    }
    java = values("message_sys_flag")
    assert {constant: java[name] for constant, name in SYS_FLAGS.items()} == {
        name: member.value for name, member in SysFlag.__members__.items()
    }


@pytest.mark.parametrize("origin", ["4.9.7", "5.1.4", "5.3.3", "5.4.0"])
def test_versions_have_javas_ordinals(origin: str) -> None:
    """Every release and snapshot of Java's list has its ordinal and name, and ours is V5_3_3."""
    for text, ordinal in values("version_ordinal", origin).items():
        assert codes.version_name(ordinal) == text
        parts = text[1:].split("_")
        if len(parts) == 3 and all(part.isdigit() for part in parts):
            assert codes.version_ordinal(".".join(parts)) == ordinal
            assert codes.version_name(ordinal - 1) in (f"{text}_SNAPSHOT", "V3_0_0_FINAL")
    assert codes.version_name(codes.VERSION) == "V5_3_3"


@pytest.mark.parametrize("ordinal", [612, 613, 40000, 2**31 - 1])
def test_later_versions_are_higher(ordinal: int) -> None:
    """A number above the last one is shown as HIGHER_VERSION, as Java does."""
    assert codes.version_name(ordinal) == "HIGHER_VERSION"


@pytest.mark.parametrize("text", ["", "5", "5.3", "5.3.3.1", "v5.3.3", "6.0.0", "5.3.10", "٥.٣.٣", "5.3.3\n", "99.0.0"])
def test_unknown_versions_are_refused(text: str) -> None:
    """What the protocol has no ordinal for is a ValueError that quotes it."""
    with pytest.raises(ValueError, match="no number for version"):
        codes.version_ordinal(text)


def test_unknown_codes_have_no_name() -> None:
    """`code_name` names what it knows and gives an empty string for the rest; a negative version has no name."""
    assert codes.code_name(RequestCode, 310) == "SEND_MESSAGE_V2"
    assert codes.code_name(ResponseCode, 310) == ""
    assert codes.version_name(-1) == ""
    assert {codes.code_name(RequestCode, code) for code in codes.SEND} == {
        "SEND_MESSAGE", "SEND_MESSAGE_V2", "SEND_BATCH_MESSAGE",
    }  # fmt: skip
