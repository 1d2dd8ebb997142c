"""The ways to run a block of a document, by the word in the comment before it.

    program     a whole program that calls `asyncio.run`; it runs in virtual time, and a simulated cluster is at
                localhost:9876
    script      a whole program that needs nothing; it runs as it is
    await       statements with `await`, in virtual time, with a `producer`, a `cluster`, and all public names
    web CALL    an ASGI application `app`: its lifespan is entered and left, and CALL is awaited in between
    pytest      a test file. All of them are run by one pytest in a process of its own, and all their tests pass

In virtual time the real world is replaced below the examples: `Environment.system` gives the virtual one, so that an
example says what a user would write. Every function of a block must have been called, or the block was not run.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import linecache
import re
import subprocess
import sys
import types
from collections.abc import Awaitable, Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import broker_sim
import rocketmq_aio
from broker_sim import Cluster
from broker_sim.worlds.runner import run_virtual
from rocketmq_aio import Environment, Producer
from tests.docs.documents import ROOT, Block

TOPICS = {"orders": 4}
ADDRESS = "localhost:9876"
PYTEST_SECONDS_MAX = 60


class Trace:
    """Knows which code objects of a block were entered."""

    def __init__(self, block: Block) -> None:
        self.name = f"<{block}>"
        self._entered: set[tuple[str, int]] = set()

    def __call__(self, frame: types.FrameType, event: str, _argument: object) -> None:
        """Called by the interpreter."""
        if event == "call" and frame.f_code.co_filename == self.name:
            self._entered.add((frame.f_code.co_qualname, frame.f_code.co_firstlineno))

    def missed(self, code: types.CodeType) -> list[str]:
        """The functions that were never entered."""
        inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        found = [] if (code.co_qualname, code.co_firstlineno) in self._entered else [code.co_qualname]
        return found + [name for one in inner for name in self.missed(one)]


def run_block(block: Block, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a block of Python, but for test files.

    Returns:
        What it printed.

    Raises:
        ValueError: nothing says how to run it.
        AssertionError: a part of it did not run.
    """
    runner = RUNNERS.get(block.kind)
    if runner is None:
        kinds = " or ".join([*RUNNERS, "pytest"])
        raise ValueError(f"{block}: put <!-- test: {kinds} --> before the block, or it is not tested")
    trace = Trace(block)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if runner is run_await else 0
    code = compile(block.text, trace.name, "exec", flags=flags, dont_inherit=True)
    # Tracebacks show the lines of the block, in failures and in the reports of hangs.
    linecache.cache[trace.name] = len(block.text), None, block.text.splitlines(keepends=True), trace.name
    printed = StringIO()
    before = sys.getprofile()
    with redirect_stdout(printed):
        sys.setprofile(trace)
        try:
            runner(block, code, monkeypatch)
        finally:
            sys.setprofile(before)
    missed = trace.missed(code)
    assert not missed, f"{block}: never called: {', '.join(missed)}"
    return printed.getvalue()


def in_virtual_time(main: Callable[[Cluster], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `main(cluster)` where the real world is a virtual one, with a cluster at the address of the examples."""

    async def body(environment: Environment) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(Environment, "system", lambda: environment)
            async with Cluster(brokers=2, topics=TOPICS, port=9876, environment=environment) as cluster:
                return await main(cluster)

    return run_virtual(body, seed=1)


def run_program(block: Block, code: types.CodeType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a whole program."""
    runs = 0

    def run(main: Awaitable[Any]) -> Any:
        nonlocal runs
        runs += 1

        async def body(_cluster: Cluster) -> Any:
            return await main

        return in_virtual_time(body, monkeypatch)

    monkeypatch.setattr(asyncio, "run", run)
    exec(code, {"__name__": "__main__"})
    assert runs, f"{block}: a program calls asyncio.run"


def run_script(_block: Block, code: types.CodeType, _monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a program as it is."""
    exec(code, {"__name__": "__main__"})


def run_await(block: Block, code: types.CodeType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run statements with `await`."""
    names = {name: getattr(package, name) for package in (rocketmq_aio, broker_sim) for name in package.__all__}

    async def body(cluster: Cluster) -> None:
        async with Producer("docs", namesrv=ADDRESS) as producer:
            coroutine = eval(code, {**names, "asyncio": asyncio, "producer": producer, "cluster": cluster})
            assert inspect.iscoroutine(coroutine), f"{block}: awaits nothing"
            await coroutine

    in_virtual_time(body, monkeypatch)


def run_web(block: Block, code: types.CodeType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a web application: enter its lifespan, make one call, leave."""
    try:
        __import__("fastapi")
    except ModuleNotFoundError:
        monkeypatch.setitem(sys.modules, "fastapi", fastapi_in_outline())
    names: dict[str, Any] = {"__name__": "app"}
    exec(code, names)

    async def body(cluster: Cluster) -> None:
        app = names["app"]
        async with app.router.lifespan_context(app):
            await eval(block.argument, names)
        assert cluster.messages("orders"), f"{block}: {block.argument} has sent nothing"

    in_virtual_time(body, monkeypatch)


def fastapi_in_outline() -> types.ModuleType:
    """What the example needs of FastAPI, for where that is not installed: the lifespan, the state, a decorator."""

    class FastAPI:
        def __init__(self, *, lifespan: Callable[[Any], Any]) -> None:
            self.state = types.SimpleNamespace()
            self.router = types.SimpleNamespace(lifespan_context=lifespan)

        def post(self, _path: str) -> Callable[[Any], Any]:
            return lambda function: function

    module = types.ModuleType("fastapi")
    module.FastAPI = FastAPI  # type: ignore[attr-defined]
    return module


@dataclass
class TestFileOutcome:
    """What pytest said of one test file."""

    __test__ = False

    passed: int
    others: list[str]


#: Runs pytest on a directory; the last line that it prints has the outcome of each phase of each test, and of each file
#: that could not be collected. The project is found where it lies, installed or not.
_PYTEST = """
import json, sys
sys.path.insert(0, sys.argv[1])
import pytest

class Reports:
    found = []
    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.found.append([report.location[0], report.outcome, report.longreprtext or report.nodeid])
    def pytest_collectreport(self, report):
        if report.outcome != "passed":
            self.found.append([report.nodeid, report.outcome, report.longreprtext])

options = "-q -W error -p no:cacheprovider --import-mode=importlib --continue-on-collection-errors --rootdir".split()
pytest.main([*options, sys.argv[2], sys.argv[2]], plugins=[Reports()])
print()
print(json.dumps(Reports.found))
"""


def run_test_files(blocks: Sequence[Block], directory: Path) -> dict[Block, TestFileOutcome]:
    """Run test files, all in one process, where warnings are errors as in this project."""
    names = {f"test_block_{number}.py": block for number, block in enumerate(blocks)}
    for name, block in names.items():
        (directory / name).write_text(block.text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _PYTEST, str(ROOT), str(directory)], capture_output=True, text=True, cwd=directory,
        timeout=PYTEST_SECONDS_MAX, check=True,
    )  # fmt: skip
    outcomes = {block: TestFileOutcome(0, []) for block in blocks}
    for name, outcome, words in json.loads(done.stdout.splitlines()[-1]):
        found = outcomes[names[name]]
        if outcome == "passed":
            found.passed += 1
        else:
            found.others.append(f"{outcome}: {words}")
    return outcomes


def check_test_file(block: Block, outcome: TestFileOutcome) -> None:
    """Demand that all tests of a block were run, and that all of them passed."""
    written = len(re.findall(r"^(?:async )?def test_", block.text, re.MULTILINE))
    assert not outcome.others, f"{block}\n" + "\n".join(outcome.others)
    assert outcome.passed >= written > 0, f"{block}: {written} tests are written, {outcome.passed} were run"


RUNNERS: dict[str, Callable[[Block, types.CodeType, pytest.MonkeyPatch], None]] = {
    "program": run_program, "script": run_script, "await": run_await, "web": run_web,
}  # fmt: skip
