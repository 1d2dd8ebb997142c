"""The jars of one RocketMQ version, from Maven, and what every JVM that runs them is given.

Needs `java` (17 or later) and `mvn` on the PATH. It refuses to know what is run from the jars.

Source: the start scripts `runserver.sh` and `runbroker.sh` of 5.3.3, for the JVM's flags.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_POM = _HERE / "java" / "pom.xml"
_PROJECT = _HERE.parents[1]
_FETCH_TIMEOUT_S = 900

# RocketMQ reads private parts of the JDK.
JVM_FLAGS = (
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
)


class UnavailableError(Exception):
    """This machine cannot run RocketMQ; the text says in words what is missing."""


def find_tool(name: str) -> str:
    """Return the path of a program, or raise UnavailableError."""
    path = shutil.which(name)
    if path is None:
        raise UnavailableError(
            f"`{name}` is not on the PATH: interop tests run the real RocketMQ, which needs a JDK (17+) and Maven"
        )
    return path


def cache_dir() -> Path:
    """Return the directory that holds one directory for each version."""
    return Path(os.environ.get("ROCKETMQ_CACHE") or _PROJECT / ".cache" / "rocketmq").resolve()


def make_once(final: Path, make: Callable[[Path], None]) -> Path:
    """Let `make` fill a directory that appears as `final` when complete, whoever else is doing the same."""
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{final.name}-", dir=final.parent) as scratch:
        partial = Path(scratch) / "partial"
        partial.mkdir()
        make(partial)
        try:
            partial.rename(final)
        except OSError:
            # Another run was faster; its directory is as good.
            if not final.is_dir():
                raise
    return final


def fetch(version: str) -> Path:
    """Return the directory with all jars of one RocketMQ version ("5.3.3"); Maven fetches them the first time.

    They stay in `.cache/rocketmq/<version>/` of the project, or `<version>/` under the environment variable
    ROCKETMQ_CACHE.

    Raises:
        UnavailableError: no Java or Maven, or Maven could not get the artifacts.
    """
    find_tool("java")

    def copy_dependencies(partial: Path) -> None:
        command = [find_tool("mvn"), "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"]
        command += [f"-Drocketmq.version={version}", f"-DoutputDirectory={partial}"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"Maven did not fetch RocketMQ {version} within {_FETCH_TIMEOUT_S} s") from error
        if result.returncode != 0 or not any(partial.glob("rocketmq-broker-*.jar")):
            said = "\n".join((result.stdout + result.stderr).splitlines()[:6])
            raise UnavailableError(f"Maven could not fetch RocketMQ {version}; it said:\n{said}")

    return make_once(cache_dir() / version / "lib", copy_dependencies)


def clean_environment() -> dict[str, str]:
    """Return the environment without what would steer RocketMQ's programs from outside."""
    return {k: v for k, v in os.environ.items() if not k.startswith("ROCKETMQ_") and k != "NAMESRV_ADDR"}
