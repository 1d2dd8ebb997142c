"""Checks commands of the documents without running them: targets, options, extras and paths exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from typing import Any

import click

from broker_sim.cli import main as broker_sim_command
from tests.docs.documents import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

_REQUIREMENT = re.compile(r"(rocketmq-aio|\.)(?:\[([\w,-]+)\])?")


def command_problem(line: str) -> str | None:
    """What is wrong with a command line; None if nothing is, or if there is no command in it."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["$"]:
        words = words[1:]
    if not words:
        return None
    if words[:2] == ["python", "-m"]:
        if importlib.util.find_spec(words[2]) is None:
            return f"there is no module {words[2]}"
        words = [words[2].replace("_", "-"), *words[3:]]
    check = {"make": _make_problem, "pip": _pip_problem, "broker-sim": _broker_sim_problem, "pytest": _pytest_problem}
    if words[0] not in check:
        return f"{words[0]} is no command that this test knows"
    return check[words[0]](words[1:])


def _make_problem(words: list[str]) -> str | None:
    wrong = [word for word in words if "=" not in word and word not in TARGETS]
    return f"the Makefile has no target {wrong[0]}" if wrong else None


def _pip_problem(words: list[str]) -> str | None:
    if words[:1] != ["install"]:
        return "pip is only known to install"
    for word in words[1:]:
        requirement = _REQUIREMENT.fullmatch(word)
        if word == "-e":
            continue
        if requirement is None or requirement[1] not in (PROJECT["name"], "."):
            return f"{word} is not this project"
        missing = set(filter(None, (requirement[2] or "").split(","))) - set(PROJECT["optional-dependencies"])
        if missing:
            return f"there is no extra {', '.join(sorted(missing))}"
    return None


def _broker_sim_problem(words: list[str]) -> str | None:
    """click parses the options as it would, and calls nothing."""
    name, rest = words[0] if words else "--help", words[1:]
    if name in ("--help", "--version"):
        return None
    command = broker_sim_command.commands.get(name)
    if command is None:
        return f"broker-sim has no command {name}"
    try:
        command.make_context(name, rest)
    except click.exceptions.Exit:
        return None  # --help
    except click.ClickException as error:
        return error.format_message()
    return None


def _pytest_problem(words: list[str]) -> str | None:
    missing = [word for word in words if not word.startswith("-") and not (ROOT / word).exists()]
    return f"there is no {missing[0]}" if missing else None
