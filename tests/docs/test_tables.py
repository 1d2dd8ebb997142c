"""The tables of the documents say what the code says: no class, option, code, file or name is missing or invented."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import broker_sim
import rocketmq_aio
from broker_sim import BrokerConfig, Cluster
from broker_sim.handles import BrokerHandle
from broker_sim.requests.dispatch import BROKER_HANDLERS, NAME_SERVER_HANDLERS
from rocketmq_aio import ClientConfig, Producer, ProducerConfig, RequestCode, ResponseCode, Window, errors
from rocketmq_aio.errors import RocketMQError, broker_error
from tests import tidy
from tests.docs.documents import ROOT, documents, section, table

MiB = 1024 * 1024
#: Codes of a send's answer that are results.
STORED = frozenset({ResponseCode.SUCCESS, 10, 11, 12})


def read(name: str) -> str:
    """The text of a document."""
    return (ROOT / name).read_text(encoding="utf-8")


# --- errors


def error_classes() -> dict[str, type[RocketMQError]]:
    """All classes of errors, by name."""
    found = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
    return {name: kind for name, kind in found.items() if issubclass(kind, RocketMQError)}


def test_every_error_is_in_the_table() -> None:
    """The table has exactly the classes that exist, each with a base that it has."""
    rows = table(section(read("docs/errors.md"), "All classes"))
    classes = error_classes()
    assert [row["class"] for row in rows] == list(dict.fromkeys(row["class"] for row in rows))
    assert {row["class"] for row in rows} == set(classes)
    for row in rows:
        bases = [base.__name__ for base in classes[row["class"]].__bases__]
        assert row["is a"] in bases, f"{row['class']} is a {' and '.join(bases)}"


@pytest.mark.parametrize("attribute", ["retryable", "maybe_stored"])
def test_errors_promise_what_the_table_says(attribute: str) -> None:
    """yes and no are the class's own value, and nothing sets another one; varies is for what is set when it is made."""
    for row in table(section(read("docs/errors.md"), "All classes")):
        kind = error_classes()[row["class"]]
        fixed = "yes" if getattr(kind, attribute) else "no"
        assert row[attribute] == ("varies" if _varies(kind, attribute) else fixed), row["class"]


def _varies(kind: type[RocketMQError], attribute: str) -> bool:
    """Whether instances of exactly this class can have a value of their own."""
    if issubclass(kind, errors.BrokerError):
        return kind is errors.BrokerError and attribute == "retryable"  # `broker_error` sets it by the code
    if kind is errors.ConnectError:
        return False  # raised before there is anything to send on
    makers = [base for base in kind.__mro__ if "__init__" in vars(base) and issubclass(base, RocketMQError)]
    return any(f"self.{attribute} =" in inspect.getsource(maker) for maker in makers)


def test_response_codes_lead_to_the_classes_of_the_table() -> None:
    """Each code of the table gives its class and whether it is retryable; no other code has either."""
    rows = {int(row["code"]): row for row in table(section(read("docs/errors.md"), "Response codes"))}
    for code in ResponseCode:
        if code in STORED:
            assert code not in rows
            continue
        error = broker_error(code, None, address="", name=code.name, request="")
        actual = (code.name, type(error).__name__, "yes" if error.retryable else "no")
        if code in rows:
            assert tuple(rows[code][column] for column in ("name", "class", "retryable")) == actual
        else:
            assert actual[1:] == ("BrokerError", "no")
    assert set(rows) <= set(map(int, ResponseCode))


# --- options


OPTIONS = [
    (ProducerConfig, "docs/configuration.md"),
    (Window, "docs/configuration.md"),
    (ClientConfig, "docs/configuration.md"),
    (BrokerConfig, "docs/simulator.md"),
]
by_class = pytest.mark.parametrize(("kind", "document"), OPTIONS, ids=lambda value: getattr(value, "__name__", ""))


def options(kind: type[msgspec.Struct], document: str) -> Iterator[tuple[msgspec.structs.FieldInfo, dict[str, str]]]:
    """The fields of a config with their rows."""
    rows = table(section(read(document), kind.__name__))
    fields = msgspec.structs.fields(kind)
    assert [row["ours"] for row in rows] == [field.name for field in fields]
    return zip(fields, rows, strict=True)


@by_class
def test_every_option_is_in_the_table(kind: type[msgspec.Struct], document: str) -> None:
    """The fields in their order, with the defaults of the code."""
    for field, row in options(kind, document):
        assert row["default"] == _default_text(field), field.name


def _default_text(field: msgspec.structs.FieldInfo) -> str:
    value = field.default
    if isinstance(value, msgspec.Struct):
        return f"{type(value).__name__}()"
    if "bytes" in field.name:
        return f"{value // MiB} MiB"
    if type(value) is int:
        return f"{value:,}"
    if hasattr(value, "name"):
        return f"{type(value).__name__}.{value.name}"
    return "(empty)" if value == "" else str(value)


@by_class
def test_java_names_are_those_of_the_code(kind: type[msgspec.Struct], document: str) -> None:
    """The name in the table is the one that the docstring gives, or there is none in both."""
    text = inspect.getdoc(kind) or ""
    for field, row in options(kind, document):
        entry = re.search(rf"^ +{field.name}: (.+?)(?=^ +\w+: |\Z)", text + "\n", re.MULTILINE | re.DOTALL)
        assert entry, f"{kind.__name__}.{field.name} is not documented"
        java = re.search(r"\(Java:\s+`(\w+)`", entry[1])
        assert row["Java"] == (java[1] if java else "–"), field.name


@by_class
def test_ranges_are_those_that_are_checked(kind: type[msgspec.Struct], document: str) -> None:
    """Both ends of a range are taken, what lies beyond is refused; an option without a range is not a number."""
    for field, row in options(kind, document):
        if row["range"] == "–":
            assert type(field.default) not in (int, float), f"{field.name} is a number without a range"
            continue
        low, high = _range(row["range"], type(field.default))
        for good in (low, high):
            kind(**{field.name: good})
        for bad in (_beyond(low, -1), _beyond(high, 1)):
            with pytest.raises(errors.ConfigError):
                kind(**{field.name: bad})


def _range(text: str, kind: type) -> tuple[Any, Any]:
    low, _, high = text.partition(" to ")
    factor = MiB if high.endswith(" MiB") else 1
    return kind(low.replace(",", "")), kind(high.removesuffix(" MiB").replace(",", "")) * factor


def _beyond(value: Any, step: int) -> Any:
    return value + step if isinstance(value, int) else math.nextafter(value, math.copysign(math.inf, step))


# --- the simulator


def test_request_codes_are_those_that_are_served() -> None:
    """The table has exactly the handlers' codes, with their names and servers."""
    rows = table(section(read("docs/simulator.md"), "What is simulated"))
    served = dict.fromkeys(BROKER_HANDLERS, "broker") | dict.fromkeys(NAME_SERVER_HANDLERS, "name server")
    assert {int(row["code"]): row["server"] for row in rows} == served
    assert {int(row["code"]): row["request"] for row in rows} == {code: RequestCode(code).name for code in served}


# --- names and files


def test_every_public_name_is_in_a_document() -> None:
    """What a package exports is mentioned somewhere, as code."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in documents())
    names = {name for package in (rocketmq_aio, broker_sim) for name in package.__all__}
    missing = sorted(name for name in names if not re.search(rf"\b{name}\b", text))
    assert missing == []


def test_what_is_not_there_yet_is_not_there() -> None:
    """The list of what is missing names nothing that exists."""
    names = re.findall(r"`(\w+)`", section(read("README.md"), "Not there yet"))
    parameters = {*inspect.signature(Producer).parameters, *inspect.signature(Producer.send).parameters}
    parameters |= set(inspect.signature(rocketmq_aio.Message).parameters)
    there = {*rocketmq_aio.__all__, *broker_sim.__all__, *dir(Cluster), *dir(Producer), *dir(BrokerHandle), *parameters}
    claimed = set(names) - {"send", "NoRouteError"}  # these are said of this version
    assert len(claimed) >= 10
    assert sorted(claimed & there) == []


def test_tree_lists_every_file() -> None:
    """The tree of docs/design.md has each file of both packages once, and marks the pure ones."""
    listed: dict[str, bool] = {}
    package = ""
    for line in section(read("docs/design.md"), "The tree").splitlines():
        top = re.fullmatch(r"(\w+)/", line)
        entry = re.match(r"(∘| ) ([\w./]+\.py) ", line)
        if top:
            package = top[1]
        elif entry:
            path = f"{package}/{entry[2]}"
            assert path not in listed, path
            listed[path] = entry[1] == "∘"
    there = {
        path.relative_to(ROOT).as_posix(): path
        for name in ("rocketmq_aio", "broker_sim")
        for path in (ROOT / name).rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    }
    assert sorted(set(there) - set(listed)) == [], "add a line to docs/design.md"
    assert sorted(set(listed) - set(there)) == [], "take the line out of docs/design.md"
    for path, pure in listed.items():
        assert tidy.Source(path, "").matches(tidy.PURE) is pure, f"{path}: ∘ marks pure files"


def test_files_named_in_the_design_exist() -> None:
    """Each `file.py` that the text of docs/design.md mentions is a file of the project."""
    names = set(re.findall(r"`((?:[\w]+/)*[\w]+\.py)`", read("docs/design.md")))
    there = [path.relative_to(ROOT).as_posix() for top in ("rocketmq_aio", "broker_sim", "tests", "benchmarks")
             for path in (ROOT / top).rglob("*.py")]
    assert names
    assert [name for name in sorted(names) if not any(f"/{path}".endswith(f"/{name}") for path in there)] == []
