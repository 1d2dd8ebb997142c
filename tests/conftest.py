"""What holds for every test: which suites run by default, and how Hypothesis behaves."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from hypothesis import settings

INTEROP = Path(__file__).parent / "interop"

# No deadline: a busy machine is not a failing test. The blob makes a failure repeatable elsewhere.
settings.register_profile("project", deadline=None, print_blob=True)
settings.load_profile("project")


def _interop_named(config: pytest.Config) -> bool:
    return any("interop" in argument for argument in config.args)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the interop suite (Java, minutes) out unless its path is named on the command line."""
    return True if collection_path == INTEROP and not _interop_named(config) else None


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say on what the run depends, and what it leaves out."""
    libraries = []
    for name in ("msgspec", "uvloop"):
        try:
            libraries.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            libraries.append(f"no {name}")
    header = [f"libraries: {', '.join(libraries)}; {platform.python_implementation()} on {platform.machine()}"]
    if not _interop_named(config):
        header.append("left out: tests/interop (make interop)")
    return header
