"""The source tree keeps its laws: floors, purity, sizes, documentation, lazy exports, banned names.

The rules are in `tests/tidy.py`. Each is run over the tree, and over small wrong trees, to show that it can fail.
"""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests import tidy
from tests.tidy import Project, Source

ROOT = Path(__file__).resolve().parent.parent
PROJECT = Project.read(ROOT)
Rule = Callable[[Project], Iterator[str]]
RULES: tuple[Rule, ...] = (
    tidy.floors,
    tidy.circles,
    tidy.late_imports,
    tidy.purity,
    tidy.sizes,
    tidy.module_docstrings,
    tidy.banned_names,
    tidy.broad_excepts,
    tidy.unfinished,
)


def demand_none(violations: Iterable[str]) -> None:
    """Fail with all violations at once, each on its line."""
    lines = sorted(set(violations))
    if lines:
        pytest.fail(f"{len(lines)} violations:\n" + "\n".join(lines), pytrace=False)


def run_python(program: str) -> object:
    """What a program printed as JSON, run by a fresh interpreter in the root."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def text_files() -> Iterator[tuple[str, str]]:
    """Path and text of every file that git tracks or would add; without git, of the directories of Python code."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = [source.path for source in PROJECT.sources]
    if shutil.which("git"):
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        if listing.returncode == 0:
            names = listing.stdout.decode().split("\0")
    for name in names:
        path = ROOT / name
        if name and path.is_file():
            content = path.read_bytes()
            if b"\0" not in content:
                yield name, content.decode("utf-8", "replace")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_tree_keeps_rule(rule: Rule) -> None:
    """No file of the tree violates the rule."""
    demand_none(rule(PROJECT))


def test_no_text_names_a_machine() -> None:
    """No tracked text holds a path of the machine it was written on, or the address of a package mirror."""
    demand_none(tidy.machine_paths(text_files()))


def test_exceptions_exist() -> None:
    """Whatever is excused by name from a law of imports exists: an excuse does not outlive its file."""
    excused = {*tidy.LATE_IMPORTS, *(path for path, _ in tidy.PURE_EXCEPTIONS)}
    missing = [path for path in excused if not (ROOT / path).exists()]
    demand_none(f"{path}: is excused and does not exist. Take it off the list" for path in missing)


@pytest.mark.parametrize("package", tidy.PACKAGES)
def test_every_export_is_documented(package: str) -> None:
    """Each public name has a docstring, and so has each public method of a public class."""
    demand_none(tidy.undocumented(PROJECT, importlib.import_module(package).__all__))


@pytest.mark.parametrize("package", tidy.PACKAGES)
def test_import_is_lazy(package: str) -> None:
    """Importing a package loads neither asyncio nor anything that has to be installed."""
    loaded = run_python(
        f"import sys, json, {package}\n"
        "print(json.dumps(sorted({'asyncio', 'anyio', 'msgspec', 'uvloop', 'click', 'rich'} & set(sys.modules))))"
    )
    assert loaded == [], f"import {package} loads {loaded}: export lazily"


@pytest.mark.parametrize("package", tidy.PACKAGES)
def test_exports_are_complete(package: str) -> None:
    """Every name of `__all__` resolves and is listed by `dir`, used or not; any other name is an AttributeError."""
    module = importlib.import_module(package)
    before = run_python(f"import json, {package}\nprint(json.dumps([dir({package}), list({package}.__all__)]))")
    assert isinstance(before, list)
    listed, exported = before
    assert len(exported) == len(set(exported))
    assert set(exported) <= set(listed)
    assert [name for name in exported if not hasattr(module, name)] == []
    assert set(exported) <= set(dir(module))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


@pytest.mark.parametrize("package", tidy.PACKAGES)
def test_type_checkers_see_the_same_exports(package: str) -> None:
    """The names that `__init__` imports under TYPE_CHECKING are exactly those that it exports when run."""
    tree = PROJECT.modules[package].tree
    blocks = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    seen = {
        alias.asname or alias.name
        for block in blocks
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(tidy.PACKAGES)
        for alias in node.names
    }
    assert seen == set(importlib.import_module(package).__all__) - {"__version__"}


CODES = ("rocketmq_aio/codes.py", '"""Codes."""\n')
SENDER = ("rocketmq_aio/send.py", '"""Send."""\n')
WRONG = [
    pytest.param(tidy.floors, [SENDER, ("rocketmq_aio/net/pool.py", "from rocketmq_aio import send")], id="upward"),
    pytest.param(tidy.floors, [SENDER, ("rocketmq_aio/net/pool.py", "from .. import send")], id="upward-relative"),
    pytest.param(
        tidy.floors, [CODES, ("rocketmq_aio/send.py", "import broker_sim.store.log")], id="client-sees-simulator"
    ),
    pytest.param(tidy.floors, [CODES, ("broker_sim/broker.py", "from rocketmq_aio import Producer")], id="door"),
    pytest.param(
        tidy.floors, [SENDER, ("broker_sim/broker.py", "import rocketmq_aio.send")], id="simulator-sees-client"
    ),
    pytest.param(
        tidy.circles,
        [("rocketmq_aio/a.py", "from rocketmq_aio import b"), ("rocketmq_aio/b.py", "from .a import x")],
        id="circle",
    ),
    pytest.param(tidy.late_imports, [("rocketmq_aio/a.py", "def f():\n    import zlib")], id="late"),
    pytest.param(
        tidy.late_imports, [("rocketmq_aio/a.py", "try:\n    import lz4\nexcept ImportError:\n    pass")], id="guarded"
    ),
    pytest.param(tidy.purity, [("rocketmq_aio/wire/ids.py", "import os")], id="impure-library"),
    pytest.param(tidy.purity, [SENDER, ("rocketmq_aio/plan.py", "import rocketmq_aio.send")], id="impure-file"),
    pytest.param(tidy.sizes, [("tests/a.py", "x = 1\n" * 501)], id="long-file"),
    pytest.param(tidy.sizes, [("tests/a.py", "def f():\n" + "    x = 1\n" * 71)], id="long-function"),
    pytest.param(tidy.sizes, [("tests/a.py", "x = '" + "y" * 120 + "'")], id="long-line"),
    pytest.param(tidy.module_docstrings, [("benchmarks/a.py", "x = 1")], id="no-docstring"),
    pytest.param(tidy.banned_names, [("rocketmq_aio/a.py", "from time import monotonic as m\nnow = m()")], id="clock"),
    pytest.param(
        tidy.banned_names, [("rocketmq_aio/a.py", "import datetime\nnow = datetime.datetime.now()")], id="date"
    ),
    pytest.param(tidy.banned_names, [("broker_sim/a.py", "import random as r\nr.shuffle([])")], id="dice"),
    pytest.param(tidy.banned_names, [("broker_sim/a.py", "def f(loop): return loop.create_server()")], id="socket"),
    pytest.param(
        tidy.banned_names, [("broker_sim/a.py", "class A:\n    def f(self): return self._loop.time()")], id="loop-time"
    ),
    pytest.param(tidy.banned_names, [("broker_sim/a.py", "import asyncio\nx = asyncio.wait_for")], id="wait-for"),
    pytest.param(tidy.banned_names, [("broker_sim/a.py", "import json")], id="json"),
    pytest.param(tidy.banned_names, [("broker_sim/a.py", "print(1)")], id="print"),
    pytest.param(
        tidy.broad_excepts, [("broker_sim/a.py", "try:\n    f()\nexcept (OSError, Exception):\n    pass")], id="except"
    ),
    pytest.param(tidy.broad_excepts, [("broker_sim/a.py", "try:\n    f()\nexcept:\n    pass")], id="bare-except"),
    pytest.param(
        tidy.broad_excepts,
        [("broker_sim/a.py", "from contextlib import suppress\nwith suppress(Exception): f()")],
        id="suppress",
    ),
    pytest.param(tidy.unfinished, [("tests/a.py", "# TO" + "DO later")], id="unfinished"),
]


@pytest.mark.parametrize(("rule", "files"), WRONG)
def test_rule_finds_what_is_wrong(rule: Rule, files: list[tuple[str, str]]) -> None:
    """A wrong tree gives exactly one violation, and it names the wrong file."""
    (violation,) = set(rule(Project(tuple(Source(path, text) for path, text in files))))
    assert violation.startswith(files[-1][0]) or rule is tidy.circles


RIGHT = [
    (tidy.floors, [CODES, ("rocketmq_aio/net/pool.py", "from rocketmq_aio import codes")]),
    (tidy.floors, [SENDER, ("broker_sim/simulation.py", "import rocketmq_aio.send")]),
    (
        tidy.circles,
        [("rocketmq_aio/a.py", "if TYPE_CHECKING:\n    from . import b"), ("rocketmq_aio/b.py", "from . import a")],
    ),
    (tidy.purity, [("rocketmq_aio/plan.py", "if TYPE_CHECKING:\n    from random import Random")]),
    (tidy.banned_names, [("rocketmq_aio/environment.py", "import time\nnow = time.monotonic()")]),
    (tidy.banned_names, [("rocketmq_aio/a.py", "import random\nrng = random.Random(7)\nrng.random()\nclock.time()")]),
    (tidy.broad_excepts, [("broker_sim/a.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise")]),
]


@pytest.mark.parametrize(("rule", "files"), RIGHT)
def test_rule_leaves_right_alone(rule: Rule, files: list[tuple[str, str]]) -> None:
    """What the law allows, or excuses by name, is no violation."""
    assert list(rule(Project(tuple(Source(path, text) for path, text in files)))) == []


def test_machine_paths_are_found() -> None:
    """Paths of a machine and addresses of package hosts are found; loopback and links to projects are not."""
    bad = ["/".join(["cd ", "work", "main"]), "/".join(["", "root", "x"]), "https://{}.org/simple".format("pypi")]
    good = ["http://127.0.0.1:8080/rocketmq/nsaddr", "https://github.com/apache/rocketmq", "docs/work/x", "/tmp/x"]
    assert len(list(tidy.machine_paths([("a", "\n".join(bad))]))) == len(bad)
    assert list(tidy.machine_paths([("a", "\n".join(good))])) == []


def test_undocumented_exports_are_found() -> None:
    """A class, a method, a constant without a word, and a name that nobody defines: each is found."""
    text = "class A:\n    def f(self): pass\n    def _g(self): pass\nB = 1\nC = 2\n'''Documented.'''\n"
    found = list(tidy.undocumented(Project((Source("rocketmq_aio/a.py", text),)), ["A", "B", "C", "D"]))
    assert [line.split(": ", 1)[1].split()[0] for line in found] == ["A", "A.f", "B", "exported,"]
