"""The command `broker-sim` as a user runs it: a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest

from rocketmq_aio.codes import RequestCode
from rocketmq_aio.environment import Environment
from rocketmq_aio.wire.frame import RemotingCommand
from tests.support.brokers import send_fields
from tests.support.raw_client import RawClient

COMMAND = [sys.executable, "-W", "error", "-m", "broker_sim"]


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """The running command and its output. It is killed if the test did not end it."""
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False)


def ask(address: str, code: int, fields: dict[str, Any], body: bytes = b"") -> RemotingCommand:
    async def main() -> RemotingCommand:
        async with RawClient(Environment.system(), address) as client:
            return await client.call(code, fields, body)

    return asyncio.run(main())


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_a_signal(number: signal.Signals) -> None:
    """The first line tells the address; topics are there; a signal ends it with exit code 0 and no complaint."""
    with serving("--brokers", "2", "--topic", "orders:3", "--topic", "T") as (process, out):
        label, namesrv = out.readline().split(": ")
        assert label == "Name server"
        addresses = dict(out.readline().strip().split(": ") for _ in range(2))
        assert out.readline() == "Ctrl-C ends it.\n"
        assert set(addresses) == {"broker-a", "broker-b"}
        answer = ask(namesrv.strip(), RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": "orders"})
        assert answer.body.count(b'"writeQueueNums":3') == 2
        assert ask(addresses["broker-b"], RequestCode.SEND_MESSAGE_V2, send_fields(), b"x").code == 0
        process.send_signal(number)
        assert ended(process) == (0, "", "")


def test_json_events() -> None:
    """With --json each line is an event for programs."""
    with serving("--json", "--name-servers", "2") as (process, out):
        ready = msgspec.json.decode(out.readline())
        assert ready["event"] == "ready"
        assert len(ready["namesrv"].split(";")) == 2
        assert ready["brokers"].keys() == {"broker-a"}
        process.terminate()
        assert ended(process) == (0, '{"event":"stopped"}\n', "")


def test_brokers_of_other_name_servers() -> None:
    """Brokers can register elsewhere, and be advertised under another name; at the end they leave."""
    with serving("--json", "--brokers", "0") as (_, out):
        namesrv = msgspec.json.decode(out.readline())["namesrv"]
        options = ("--json", "--name-servers", "0", "--namesrv", namesrv, "--topic", "T", "--advertise", "localhost")
        with serving(*options) as (process, other):
            ready = msgspec.json.decode(other.readline())
            assert ready["namesrv"] == namesrv
            assert ready["brokers"]["broker-a"].startswith("localhost:")
            answer = ask(namesrv, RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": "T"})
            assert ready["brokers"]["broker-a"].encode() in answer.body
            process.terminate()
            assert ended(process)[0] == 0
        assert ask(namesrv, RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": "T"}).code == 17


def test_taken_port() -> None:
    """A port that somebody has is an error in words, with exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert "name-server-0 cannot listen: " in done.stderr and str(port) in done.stderr
    assert "Is another program using the port?" in done.stderr
    assert "Traceback" not in done.stderr


def test_foreign_host() -> None:
    """An address that is not of this machine is not blamed on another program."""
    done = run("serve", "--host", "192.0.2.1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Is '192.0.2.1' an address of this machine?" in done.stderr
    assert "another program" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts(number: signal.Signals) -> None:
    """While it waits for a name server that is silent, a signal ends it like any other time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        namesrv = f"127.0.0.1:{silent.getsockname()[1]}"
        with serving("--json", "--brokers", "3", "--name-servers", "0", "--namesrv", namesrv) as (process, _):
            connection, _ = silent.accept()
            process.send_signal(number)
            assert ended(process) == (0, '{"event":"stopped"}\n', "")
            connection.close()


def test_a_silent_name_server_elsewhere() -> None:
    """It is ready all the same, and says which name server is silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        namesrv = f"127.0.0.1:{silent.getsockname()[1]}"
        with serving("--json", "--brokers", "3", "--namesrv", namesrv) as (process, out):
            ready = msgspec.json.decode(out.readline())
            assert ready["namesrv"].endswith(f";{namesrv}")
            process.terminate()
            code, rest, errors = ended(process)
    assert (code, rest) == (0, '{"event":"stopped"}\n')
    assert f"broker-c is not registered: the name server at {namesrv} is silent so far." in errors


def test_nobody_reads() -> None:
    """When the reader of its output has gone, it serves on, and a signal ends it with exit code 0."""
    with serving("--json") as (process, out):
        namesrv = msgspec.json.decode(out.readline())["namesrv"]
        out.close()
        assert ask(namesrv, RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": "TBW102"}).code == 0
        process.terminate()
        assert process.stderr is not None
        assert (process.wait(), process.stderr.read()) == (0, "")


@pytest.mark.parametrize(("option", "code"), [("--auto-create-topics", 0), ("--no-auto-create-topics", 17)])
def test_topics_that_sends_create(option: str, code: int) -> None:
    """TBW102, by which clients find a broker for a topic that does not exist yet, is there or not."""
    with serving("--json", option) as (process, out):
        namesrv = msgspec.json.decode(out.readline())["namesrv"]
        assert ask(namesrv, RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": "TBW102"}).code == code
        process.terminate()
        assert ended(process)[0] == 0


BUSY = '[[inject]]\nrequests = "SEND"\nverdict = "Reply"\ncode = "SYSTEM_BUSY"\n'


def test_rules_are_read_again_when_they_change(tmp_path: Path) -> None:
    """Rules hold before the first line is out; a changed file replaces them, and a broken one changes nothing."""
    rules = tmp_path / "rules.toml"
    rules.write_text(BUSY)
    with serving("--json", "--topic", "T", "--rules", str(rules)) as (process, out):
        address = msgspec.json.decode(out.readline())["brokers"]["broker-a"]

        def told(text: str | None = None) -> Any:
            if text is not None:
                whole = tmp_path / "new"
                whole.write_text(text)
                whole.replace(rules)
            return msgspec.json.decode(out.readline())

        def send() -> int:
            return ask(address, RequestCode.SEND_MESSAGE_V2, send_fields(), b"x").code

        assert (told(), send()) == ({"event": "rules", "injections": 1}, 2)
        assert (told(BUSY.replace("SYSTEM_BUSY", "NO_PERMISSION") + BUSY), send()) == (
            {"event": "rules", "injections": 2}, 16,
        )  # fmt: skip
        failed = told("# now it breaks\n" + BUSY.replace("Reply", "Rely"))
        assert failed["event"] == "rules_failed" and "rules.toml, line 2: verdict is 'Rely'" in failed["error"]
        failed = told(BUSY + BUSY + 'broker = "broker-z"\n')
        assert "rules.toml, line 5: Cluster.inject: there is no server 'broker-z'" in failed["error"]
        assert send() == 16
        rules.unlink()
        failed = told()
        assert failed["event"] == "rules_failed" and "cannot be read" in failed["error"]
        assert send() == 16
        if hasattr(os, "mkfifo"):  # not on Windows
            os.mkfifo(rules)
            failed = told()
            assert failed["event"] == "rules_failed" and "no regular file" in failed["error"]
            assert send() == 16
        assert (told(""), send()) == ({"event": "rules", "injections": 0}, 0)
        process.terminate()
        assert ended(process) == (0, '{"event":"stopped"}\n', "")


def test_rules_in_words(tmp_path: Path) -> None:
    """Without --json the same is said in a line, and what is wrong on standard error."""
    rules = tmp_path / "rules.toml"
    rules.write_text(BUSY)
    with serving("--rules", str(rules)) as (process, out):
        assert [out.readline() for _ in range(4)][3] == "Rules: 1 injection\n"
        rules.write_bytes(b"\xff")
        assert process.stderr is not None
        assert process.stderr.readline().startswith("The rules stay as they were. ")
        process.terminate()
        assert ended(process)[0] == 0


def test_wrong_rules_that_nobody_hears_of() -> None:
    """A standard error that is closed on the other side does not end the command."""
    program = "from broker_sim.cli import _Printer; import sys; sys.stdin.read(); _Printer(False).rules_failed('x')"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None and process.stdin is not None
        process.stderr.close()
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[inject", "line 1"),
        ("\n" + BUSY.replace("SEND", "SENT"), "line 2: 'SENT' is no RequestCode"),
        (BUSY + 'broker = "x"', "line 1: Cluster.inject: there is no server 'x'"),
    ],
)
def test_rules_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    """At the start a bad file is a wrong option: exit code 2, and the line that is wrong."""
    rules = tmp_path / "rules.toml"
    rules.write_text(text)
    done = run("serve", "--port", "0", "--rules", str(rules))
    assert (done.returncode, done.stdout) == (2, "")
    assert "rules.toml" in done.stderr and words in done.stderr
    assert run("serve", "--rules", str(tmp_path / "none")).returncode == 2


def test_the_cluster_has_a_name() -> None:
    """--cluster is what the brokers register for."""
    with serving("--json", "--cluster", "Guests", "--topic", "T") as (process, out):
        namesrv = msgspec.json.decode(out.readline())["namesrv"]
        assert b'"cluster":"Guests"' in ask(namesrv, RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": "T"}).body
        process.terminate()
        assert ended(process)[0] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--topic", "T:many"], "'T:many' is not NAME:QUEUES"),
        (["--topic", "bad topic"], "'bad topic' cannot be a topic"),
        (["--name-servers", "0"], "--name-servers 0 needs --namesrv"),
        (["--name-servers", "0", "--brokers", "0"], "leave nothing to serve"),
        (["--advertise", "a:1"], "advertise must be a host name or an address without port, not 'a:1'"),
        (["--host", ""], "give '0.0.0.0' or '::'"),
        (["--cluster", "a.b"], "cluster_name is 'a.b'"),
        (["--namesrv", "nowhere:port"], "has no port"),
        (["--port", "65535"], "leaves no room"),
        (["--brokers", "-1"], "--brokers"),
    ],
)
def test_wrong_options(options: list[str], words: str) -> None:
    """Each is an error of usage that says what is wrong."""
    done = run("serve", *options)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())


def test_help() -> None:
    """Help names every option and shows what the command prints."""
    done = run("serve", "--help")
    assert done.returncode == 0
    options = "--brokers --name-servers --port --host --advertise --topic --namesrv --cluster --json".split()
    for words in (*options, "Name server: 127.0.0.1:40817", "Ctrl-C or SIGTERM"):
        assert words in done.stdout
    assert run("--version").stdout.startswith("broker-sim, version ")
    assert "serve" in run("--help").stdout


def test_missing_extra() -> None:
    """Without the packages of the extra the command says how to get them."""
    program = "import sys; sys.modules['click'] = None; import broker_sim.cli"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "broker-sim needs packages that are not installed: pip install 'rocketmq-aio[cli]'\n"
