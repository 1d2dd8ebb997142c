"""A file of injections: what it says, and what is refused, with the line."""

from __future__ import annotations

import pytest

from broker_sim.rules_file import FileRule, parse_rules
from broker_sim.verdicts import Delay, Disconnect, Drop, Duplicate, Pass, Reply, Status
from rocketmq_aio.codes import SEND
from rocketmq_aio.errors import ConfigError
from rocketmq_aio.message import SendStatus

WHOLE = """
# every verdict, every argument
[[inject]]
requests = "SEND"
verdict = "Reply"
code = "SYSTEM_BUSY"
remark = "too many"
fields = { a = "b" }
body = "why"
phase = "after"
broker = "broker-a"
topic = "orders"
times = 2
after = 1
probability = 0.5

  [[ inject ]]
requests = ["PULL_MESSAGE", 34, "SEND"]
verdict = "Status"
status = "FLUSH_DISK_TIMEOUT"

[[inject]]
verdict = "Delay"
seconds = 1.5
[[inject]]
verdict = "Drop"
phase = "after"
[[inject]]
verdict = "Disconnect"
[[inject]]
requests = 310
verdict = "Duplicate"
[[inject]]
verdict = "Pass"
[[inject]]
verdict = "Reply"
code = 215
"""


def test_everything_that_can_be_said() -> None:
    """Verdicts and arguments have the names that they have in Python; codes are names or numbers."""
    options = {"broker": "broker-a", "topic": "orders", "times": 2, "after": 1, "probability": 0.5}
    assert parse_rules(WHOLE) == [
        FileRule(3, SEND, Reply(2, "too many", {"a": "b"}, b"why", "after"), options),
        FileRule(17, SEND | {11, 34}, Status(SendStatus.FLUSH_DISK_TIMEOUT), {}),
        FileRule(22, None, Delay(1.5), {}),
        FileRule(25, None, Drop("after"), {}),
        FileRule(28, None, Disconnect(), {}),
        FileRule(30, frozenset({310}), Duplicate(), {}),
        FileRule(33, None, Pass(), {}),
        FileRule(35, None, Reply(215), {}),
    ]


def test_nothing_is_no_injection() -> None:
    """An empty file, or one with comments only, is a file without injections."""
    assert parse_rules("") == parse_rules("# later\n") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[inject]\n", r"not TOML: .*line 1"),
        ("\n\nverdict = ", r"not TOML: .*line 3"),
        ("verdict = 'Drop'", r"no 'verdict' in a rules file.*\[\[inject\]\]"),
        ("[inject]\nverdict = 'Drop'", r"not a list of tables"),
        ("inject = [1]", r"not a list of tables"),
        ("[[inject]]\nverdict = 'Drop'\ntimes = " + "9" * 5_000, r"not TOML"),
        ("# \u2028\n[[inject]]\nverdict = 'Dropp'", r"line 2: verdict is 'Dropp'"),
        ("inject = " + "[" * 5_000 + "]" * 5_000, r"nested too deeply"),
        ("[[inject]]", r"line 1: verdict is None.*Pass, Reply, Status, Delay"),
        ("\n[[inject]]\nverdict = 'Corrupt'", r"line 2: verdict is 'Corrupt'"),
        ("[[inject]]\nverdict = 'Drop'\n[[inject]]\nverdict = 'Drop'\nphase = 'x'", r"line 3: Drop: phase must be"),
        ("[[inject]]\nverdict = 'Reply'", r"line 1: a Reply needs more: .*'code'"),
        ("[[inject]]\nverdict = 'Reply'\ncode = 'NO'", r"line 1: 'NO' is no ResponseCode"),
        ("[[inject]]\nverdict = 'Reply'\ncode = 1.5", r"line 1: Reply: code must be"),
        ("[[inject]]\nverdict = 'Status'\nstatus = 10", r"line 1: 10 is no SendStatus"),
        ("[[inject]]\nverdict = 'Delay'\nseconds = -1", r"line 1: Delay: seconds must be"),
        ("[[inject]]\nverdict = 'Delay'\nsecond = 1", r"line 1: there is no 'second' in a Delay.*seconds"),
        ("[[inject]]\nverdict = 'Drop'\nrequests = 'SENDS'", r"line 1: 'SENDS' is no RequestCode"),
        ("[[inject]]\nverdict = 'Drop'\nrequests = []", r"line 1: .*names no request code"),
        ("[[inject]]\nverdict = 'Drop'\nrequests = 1.5", r"line 1: .*requests must be request codes"),
        ("[[inject]]\nverdict = 'Drop'\nrequests = [[1]]", r"line 1: .*requests must be request codes"),
        ("[[inject]]\nverdict = 'Drop'\ntimes = 0", r"line 1: .*times must be"),
        ("[[inject]]\nverdict = 'Drop'\nwhen = 'x'", r"line 1: there is no 'when'"),
        ("inject = [{verdict = 'Drop', phase = 'x'}]", r"line 1: Drop: phase"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_refused(text: str, words: str) -> None:
    """The line, the value and the remedy are named."""
    with pytest.raises(ConfigError, match=words):
        parse_rules(text)
