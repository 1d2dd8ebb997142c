"""Every code block of README, its neighbours and `docs/` is true: Python runs, commands exist, output is as printed.

A block of Python that nothing says how to run is a failure, and so is a function in it that was never called.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker_sim.rules_file import parse_rules
from rocketmq_aio import NoRouteError
from tests.docs import documents
from tests.docs.documents import Block
from tests.docs.runners import TestFileOutcome, check_test_file, run_block, run_test_files
from tests.docs.shell import command_problem

BLOCKS = documents.all_blocks()
PYTHON = [block for block in BLOCKS if block.language == "python"]


def expected_output(block: Block) -> Block | None:
    """The output that the document shows right after a block, if it does."""
    following = next((other for other in BLOCKS if other.path == block.path and other.line > block.line), None)
    return following if following is not None and following.kind == "output" else None


@pytest.fixture(scope="module")
def test_files(tmp_path_factory: pytest.TempPathFactory) -> dict[Block, TestFileOutcome]:
    """What became of the blocks that are test files, and of the wrong ones below. A process for each would be slow."""
    wrong = [case.values[0] for case in WRONG_TEST_FILES if isinstance(case.values[0], Block)]
    files = [block for block in PYTHON if block.kind == "pytest"]
    return run_test_files([*files, *wrong], tmp_path_factory.mktemp("blocks"))


@pytest.mark.parametrize("block", [block for block in PYTHON if block.kind != "pytest"], ids=str)
def test_python_runs(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block runs to its end, all of its functions are called, and it prints what the document says."""
    printed = run_block(block, monkeypatch)
    expected = expected_output(block)
    if expected is not None:
        assert documents.matches(expected.text, printed), f"{expected} says\n{expected.text}\nbut it prints\n{printed}"


@pytest.mark.parametrize("block", [block for block in PYTHON if block.kind == "pytest"], ids=str)
def test_test_files_pass(block: Block, test_files: dict[Block, TestFileOutcome]) -> None:
    """pytest runs all tests of the block, and all of them pass."""
    check_test_file(block, test_files[block])


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "sh"], ids=str)
def test_commands_exist(block: Block) -> None:
    """Each line is a command of this project with targets, options, extras and files that exist."""
    problems = [f"{line}: {problem}" for line in block.text.splitlines() if (problem := command_problem(line))]
    assert not problems, f"{block}: " + "\n".join(problems)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "toml"], ids=str)
def test_rules_can_be_used(block: Block) -> None:
    """A shown file of injections is one."""
    assert len(parse_rules(block.text)) >= 2


def test_documents_have_blocks() -> None:
    """The search finds what is there: README alone has several blocks of Python and of commands."""
    readme = [block.language for block in BLOCKS if block.path == "README.md"]
    assert readme.count("python") >= 3
    assert readme.count("sh") >= 2


def test_output_follows_a_block_of_python() -> None:
    """Shown output that follows no program would never be compared."""
    compared = {expected_output(block) for block in PYTHON if block.kind != "pytest"}
    assert [str(block) for block in BLOCKS if block.kind == "output" and block not in compared] == []


@pytest.mark.parametrize("path", documents.documents(), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """A link to a file of the project leads to a file that exists, and to a heading in it."""
    broken = []
    prose = re.sub(r"(?ms)^```.*?^```$|`[^`\n]+`(?!\])", "", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        name, _, anchor = target.partition("#")
        if name.startswith(("http://", "https://")):
            continue
        file = (path.parent / name) if name else path
        if not file.exists() or (anchor and anchor not in documents.anchors(file.read_text(encoding="utf-8"))):
            broken.append(target)
    assert broken == []


# --- the tests themselves


def block(text: str, kind: str = "await", argument: str = "") -> Block:
    """A block of a document that does not exist."""
    return Block("wrong.md", 1, "python", text, kind, argument)


WRONG = [
    pytest.param(block("x = 1\n", kind=""), ValueError, "is not tested", id="unmarked"),
    pytest.param(block("x = 1\n", kind="skip"), ValueError, "is not tested", id="unknown-kind"),
    pytest.param(block("await producer.send(1)\n"), TypeError, "send takes a Message", id="raises"),
    pytest.param(
        block("result = await producer.send(Message('orders', b'x'))\nassert not result.ok\n"),
        AssertionError, "seed=1", id="assertion",
    ),
    pytest.param(block("async def f():\n    pass\nawait asyncio.sleep(0)\n"), AssertionError, "never called: f",
                 id="function-not-called"),
    pytest.param(block("x = 1\n"), AssertionError, "awaits nothing", id="no-await"),
    pytest.param(block("await producer.send(Message('no-topic', b'x'))\n"), NoRouteError, "no-topic", id="no-topic"),
    pytest.param(block("import asyncio\n", kind="program"), AssertionError, "asyncio.run", id="program-without-run"),
    pytest.param(block("1 / 0\n", kind="script"), ZeroDivisionError, "division", id="script"),
]


@pytest.mark.parametrize(("wrong", "error", "words"), WRONG)
def test_runner_finds_what_is_wrong(
    wrong: Block, error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example that does not work, or does not say how it is run, fails."""
    with pytest.raises(error, match=words):
        run_block(wrong, monkeypatch)


WRONG_TEST_FILES = [
    pytest.param(block("def test_a():\n    assert 0\n", "pytest"), "failed", id="failing"),
    pytest.param(block("import pytest\n@pytest.mark.skip\ndef test_a(): pass\n", "pytest"), "skipped", id="skipped"),
    pytest.param(block("import pytest\n\nasync def test_a():\n    pass\n", "pytest"), "async", id="not-awaited"),
    pytest.param(block("if True:\n    x = 1\n", "pytest"), "0 tests are written", id="no-test"),
    pytest.param(block("import no_such_module\ndef test_a():\n    pass\n", "pytest"), "no_such_module", id="import"),
    pytest.param(block("def test_a():\n    pass\ndef test_a():\n    'again'\n", "pytest"), "were run", id="twice"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_TEST_FILES)
def test_wrong_test_files_fail(wrong: Block, words: str, test_files: dict[Block, TestFileOutcome]) -> None:
    """A test file that fails, skips, cannot be imported, or of which a test is not run, is a failure."""
    with pytest.raises(AssertionError, match=words):
        check_test_file(wrong, test_files[wrong])


@pytest.mark.parametrize(
    "line",
    [
        "make tests", "pip install rocketmq", "pip install 'rocketmq-aio[nothing]'", "broker-sim serve --quick",
        "broker-sim serve --brokers many", "broker-sim run", "pytest tests/nowhere", "python -m nowhere", "rm -r docs",
    ],
)  # fmt: skip
def test_wrong_commands_are_found(line: str) -> None:
    """Targets, packages, extras, options, values, files, modules and programs that do not exist are problems."""
    assert command_problem(line) is not None


@pytest.mark.parametrize(
    "text", ["```\nx\n```\n", "```py\nx\n```\n", "- item\n  ```python\n  x\n  ```\n", "```python\nx\n"]
)
def test_blocks_cannot_hide(text: str) -> None:
    """A fence without a known language, indented, or left open is refused instead of being passed over."""
    with pytest.raises(ValueError, match=r"a\.md:\d+"):
        documents.blocks("a.md", text)


def test_blocks_are_found_with_their_comments() -> None:
    """Language, text, line, and what the comment says."""
    text = "a\n\n<!-- test: web call(1) -->\n\n```python\nx = 1\n```\n\nb\n\n```sh\nmake\n```\n"
    assert documents.blocks("a.md", text) == [
        Block("a.md", 6, "python", "x = 1\n", "web", "call(1)"), Block("a.md", 12, "sh", "make\n"),
    ]  # fmt: skip


def test_output_is_compared_up_to_its_ellipses() -> None:
    """… stands for anything in one line; every other character counts."""
    assert documents.matches("id … sent\nat …", "id 12 sent\nat 3 s\n")
    assert not documents.matches("id … sent", "id 12\n sent")
    assert not documents.matches("sent.", "sent!")
