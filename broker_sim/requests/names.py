"""Which names brokers take for topics and groups.

Source: `TopicValidator.java`, `MixAll.java` (5.3.3).
"""

from __future__ import annotations

import re

__all__ = [
    "NOT_TO_BE_SENT_TO", "RETRY_PREFIX", "TBW102", "group_name_is_legal", "is_system_topic",
    "topic_name_problem",
]

TBW102 = "TBW102"
RETRY_PREFIX = "%RETRY%"

TOPIC_LENGTH_MAX = 127
GROUP_LENGTH_MAX = 120

#: Topics of the broker's own that clients may not write to.
NOT_TO_BE_SENT_TO = frozenset(
    (
        "SCHEDULE_TOPIC_XXXX RMQ_SYS_TRANS_HALF_TOPIC RMQ_SYS_TRANS_OP_HALF_TOPIC TRANS_CHECK_MAX_TIME_TOPIC "
        "SELF_TEST_TOPIC OFFSET_MOVED_EVENT"
    ).split()
)

_SYSTEM_TOPICS = NOT_TO_BE_SENT_TO | {TBW102, "BenchmarkTest", "RMQ_SYS_TRACE_TOPIC", "CHECKPOINT_TOPIC"}
_SYSTEM_PREFIX = "rmq_sys_"

_is_legal = re.compile(r"[%|a-zA-Z0-9_-]+", re.ASCII).fullmatch


def topic_name_problem(name: str | None) -> str | None:
    """What is wrong with a topic's name, in the broker's words; None if nothing is."""
    if not name or not name.strip():
        return "The specified topic is blank."
    if not _is_legal(name):
        return "The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"
    if len(name) > TOPIC_LENGTH_MAX:
        return "The specified topic is longer than topic max length."
    return None


def group_name_is_legal(name: str) -> bool:
    """Whether brokers create a subscription group of this name."""
    return len(name) <= GROUP_LENGTH_MAX and _is_legal(name) is not None


def is_system_topic(name: str) -> bool:
    """Whether the topic belongs to the broker itself, so that nobody may create or delete it."""
    return name in _SYSTEM_TOPICS or name.startswith(_SYSTEM_PREFIX)
