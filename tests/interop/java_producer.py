"""Apache's own producer as one call: compiles `java/SendThousand.java` against a version's client and runs it.

Needs `javac` beside what `jars` needs. It refuses to know whose servers the program sends to.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.interop.jars import JVM_FLAGS, cache_dir, clean_environment, fetch, find_tool, make_once

_JAVA_SOURCES = Path(__file__).resolve().parent / "java"
# Of standard error, where the client logs: the last lines.
_ERROR_LINES = 40


class JavaProgramError(Exception):
    """The Java producer reported failures, crashed or hung; the text has its output."""


class JavaReport(NamedTuple):
    """What the Java producer says about its sends: how many were SEND_OK (`oneway`: were written) and two of its ids.

    The messages are named `<mode>-<i>`, i from 0: that is the body and the KEYS of each; its TAGS are `<mode>`.
    """

    sync: int
    async_: int
    oneway: int
    first_message_id: str
    last_message_id: str


def _compile_java(version: str, jars: Path) -> Path:
    """Compile the Java programs against one version's jars, once for each state of the sources."""
    sources = sorted(_JAVA_SOURCES.glob("*.java"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]

    def javac(partial: Path) -> None:
        command = [find_tool("javac"), "--release", "8", "-Xlint:-options", "-encoding", "UTF-8"]
        command += ["-cp", f"{jars}/*", "-d", str(partial), *map(str, sources)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise JavaProgramError(f"javac failed against {version}:\n{result.stdout}{result.stderr}")

    return make_once(cache_dir() / version / f"classes-{digest}", javac)


def run_java_producer(version: str, namesrv: str, topic: str, count: int, *, timeout: float = 180.0) -> JavaReport:
    """Send `count` messages with the official client: a third one-way, then a third async, then the rest sync.

    When it returns, brokers have acknowledged or at least read every message.

    Args:
        version: of the Java client, whatever the servers are.
        count: 3 or more, so that each mode has its share.
        timeout: seconds for the whole program.

    Raises:
        UnavailableError: as for `fetch`, or no `javac`.
        JavaProgramError: any send failed, or the program did.
    """
    jars = fetch(version)
    classes = _compile_java(version, jars)
    with tempfile.TemporaryDirectory(prefix="rocketmq-java-") as home:
        command = [find_tool("java"), *JVM_FLAGS, "-Xmx256m", f"-Duser.home={home}"]
        command += ["-cp", os.pathsep.join([str(classes), f"{jars}/*"]), "SendThousand", namesrv, topic, str(count)]
        try:
            result = subprocess.run(
                command,
                cwd=home,
                env=clean_environment(),
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise JavaProgramError(
                f"the Java {version} producer was not done in {timeout} s: {error.stderr!r}"
            ) from error
    if result.returncode != 0:
        raise JavaProgramError(
            f"the Java {version} producer ended with status {result.returncode}\n{result.stdout}\n"
            + "\n".join(result.stderr.splitlines()[-_ERROR_LINES:])
        )
    report = json.loads(result.stdout)
    return JavaReport(
        sync=report["sync"],
        async_=report["async"],
        oneway=report["oneway"],
        first_message_id=report["firstMsgId"],
        last_message_id=report["lastMsgId"],
    )
