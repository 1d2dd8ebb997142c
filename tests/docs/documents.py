"""Reads the documents: their code blocks and tables, and what the comment before a block says of it.

A fenced block of Python is preceded by an HTML comment that says how to run it, such as ``<!-- test: program -->``.
Readers do not see it. `runners.py` has the ways to run. This file knows Markdown and runs nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Languages that a fence may name. Whatever has another name would escape the tests.
LANGUAGES = ("python", "sh", "text", "toml")

_DIRECTIVE = re.compile(r"<!-- test: (\w+)(?: (.+?))? -->")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        path: of its document, relative to the root.
        line: of its first line of text, from 1.
        language: what the fence says.
        text: what is in it.
        kind: how to run it; empty if no comment says.
        argument: what the comment says besides.
    """

    path: str
    line: int
    language: str
    text: str
    kind: str = ""
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def documents() -> list[Path]:
    """README and its neighbours, and everything in `docs`."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def all_blocks() -> list[Block]:
    """The blocks of all documents."""
    return [
        block
        for path in documents()
        for block in blocks(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]


def blocks(path: str, text: str) -> list[Block]:
    """The blocks of one document.

    Raises:
        ValueError: a fence is indented, not closed, or names no language that the tests know.
    """
    found: list[Block] = []
    opened: tuple[int, str] | None = None
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if not line.lstrip().startswith("```"):
            continue
        if line[:3] != "```":
            raise ValueError(f"{path}:{number}: the fence is indented, and would not be tested")
        if opened is None:
            opened = number, line[3:].strip()
            if opened[1] not in LANGUAGES:
                raise ValueError(f"{path}:{number}: {opened[1]!r} is none of {', '.join(LANGUAGES)}")
            continue
        start, language = opened
        opened = None
        before = next((other for other in reversed(lines[: start - 1]) if other.strip()), "")
        directive = _DIRECTIVE.fullmatch(before.strip())
        kind, argument = (directive[1], directive[2] or "") if directive else ("", "")
        found.append(Block(path, start + 1, language, "\n".join(lines[start : number - 1]) + "\n", kind, argument))
    if opened is not None:
        raise ValueError(f"{path}:{opened[0]}: the fence is not closed")
    return found


def section(text: str, title: str) -> str:
    """What stands below the heading `title`, down to the next heading of its level or above.

    Raises:
        ValueError: there is no such heading.
    """
    heading = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    if heading is None:
        raise ValueError(f"no heading {title!r}")
    rest = text[heading.end() :]
    end = re.search(rf"^#{{1,{len(heading[1])}}} ", rest, re.MULTILINE)
    return rest if end is None else rest[: end.start()]


def table(text: str) -> list[dict[str, str]]:
    """The rows of the only table in `text`: column → cell, without the marks of code.

    Raises:
        ValueError: there is not exactly one table, or a row has another number of cells than the head.
    """
    groups = re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE)
    if len(groups) != 1:
        raise ValueError(f"{len(groups)} tables where one is expected")
    rows = [[_plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in groups[0].splitlines()]
    head = rows[0]
    if any(len(row) != len(head) for row in rows):
        raise ValueError(f"the table with the head {head} has rows of another width")
    return [dict(zip(head, row, strict=True)) for row in rows[2:]]


def _plain(cell: str) -> str:
    return cell.replace("\\|", "|").replace("`", "").strip()


def matches(expected: str, actual: str) -> bool:
    """Whether `actual` is `expected`, in which … stands for any text of one line."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
    return re.fullmatch(pattern, actual.strip()) is not None


def anchors(text: str) -> set[str]:
    """What a link can point to in a document: its headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
