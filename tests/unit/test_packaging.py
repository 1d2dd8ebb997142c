"""What the distribution promises: its version, its two dependencies, typed packages, a command, a licence."""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from importlib.metadata import metadata, requires, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("rocketmq_aio", "broker_sim")


def test_installed_version_is_the_declared_one() -> None:
    """What is installed was built from this pyproject.toml."""
    assert version("rocketmq-aio") == PROJECT["version"]


def test_runtime_needs_msgspec_only() -> None:
    """Whoever installs the client gets one library; everything else is an extra."""
    needed = [line for line in requires("rocketmq-aio") or () if "extra ==" not in line]
    assert sorted(line.partition(">")[0] for line in needed) == ["msgspec"]


def test_this_python_is_accepted() -> None:
    """The declared lowest Python is the lowest that is classified, and the running one is not below it."""
    classified = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if line.startswith("Programming Language")]
    lowest = min(tuple(map(int, text.split("."))) for text in classified if "." in text)
    assert PROJECT["requires-python"] == f">={lowest[0]}.{lowest[1]}"
    assert sys.version_info[:2] >= lowest


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_typed(package: str) -> None:
    """Both packages carry the marker that makes type checkers read them."""
    location = importlib.import_module(package).__file__
    assert location
    assert Path(location).with_name("py.typed").is_file()


def test_command_exists() -> None:
    """The `broker-sim` command leads to a function."""
    module, _, name = PROJECT["scripts"]["broker-sim"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_licence_travels_along() -> None:
    """The licence expression is Apache's, and both files that it needs are part of the distribution."""
    assert metadata("rocketmq-aio")["License-Expression"] == "Apache-2.0"
    assert metadata("rocketmq-aio").get_all("License-File") == ["LICENSE", "NOTICE"]
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable bit, and no make")
def test_ci_runs_what_the_readme_says() -> None:
    """The check before landing is executable, and runs the very command that the README gives."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "\nmake test\n" in script.read_text(encoding="utf-8")
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
