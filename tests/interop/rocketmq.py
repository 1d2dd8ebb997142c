"""A real RocketMQ cluster for interop tests: one name server and one broker, as processes on loopback.

It refuses to know the client under test and how messages are stored.

Source: the start scripts `mqnamesrv` and `mqbroker` of 4.9.7 and 5.3.3, without their shell.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.interop import remoting
from tests.interop.jars import JVM_FLAGS, clean_environment, fetch, find_tool

_READY_TIMEOUT_S = 120.0
_ROUTE_TIMEOUT_S = 45.0
# 5.3.3 takes its time to unregister and to join its threads.
_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.1

# Not among the ports that systems hand out for port 0 (Linux: 32768 and up), so nobody takes one between probe and use.
_PORTS = range(20_000, 32_000, 4)
_PORT_TRIES = 200
# Of a broker: itself, its VIP channel, its HA service.
_BROKER_PORT_OFFSETS = (0, -2, 1)

_NAME_SERVER_HEAP = ("-Xms64m", "-Xmx256m")
_BROKER_HEAP = ("-Xms256m", "-Xmx768m", "-XX:MaxDirectMemorySize=512m")

_NAME_SERVER_CONF = """\
listenPort={port}
bindAddress=127.0.0.1
"""
# A busy machine must not make the broker refuse sends: hence the long waits in queue and page cache.
_BROKER_CONF = """\
brokerClusterName=DefaultCluster
brokerName=broker-a
brokerId=0
brokerIP1=127.0.0.1
brokerIP2=127.0.0.1
listenPort={port}
bindAddress=127.0.0.1
namesrvAddr={namesrv}
storePathRootDir={store}
storePathCommitLog={store}/commitlog
mappedFileSizeCommitLog=33554432
mappedFileSizeConsumeQueue=60000
maxIndexNum=40000
maxHashSlotNum=10000
flushDiskType=ASYNC_FLUSH
diskMaxUsedSpaceRatio=98
waitTimeMillsInSendQueue=10000
osPageCacheBusyTimeOutMills=10000
autoCreateTopicEnable=true
enablePropertyFilter=true
transactionTimeOut=3000
transactionCheckInterval=4000
"""
# 4.9.7 dies without these; 5.x brings its own and writes files under its home.
_LOGBACK = """\
<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{HH:mm:ss,SSS} %-5p %c{0} - %m%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="out"/></root>
</configuration>
"""


class StartError(Exception):
    """A server ended early or was not ready in time; the text ends with its log."""


def _free_port(offsets: Sequence[int]) -> int:
    """Find a port that is free together with its neighbours at `offsets`."""
    for _ in range(_PORT_TRIES):
        base = random.choice(_PORTS)
        probes: list[socket.socket] = []
        try:
            for offset in offsets:
                probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                probes.append(probe)
                probe.bind(("", base + offset))
            return base
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
    raise StartError(f"no free port with neighbours {offsets} between {_PORTS.start} and {_PORTS.stop}")


class _Server:
    """One Java process with a working directory and an output file of its own."""

    def __init__(self, name: str, command: Sequence[str], home: Path) -> None:
        self.name = name
        self.output = home / f"{name}.out"
        self._seen_from = self.output.stat().st_size if self.output.exists() else 0
        environment = clean_environment() | {"ROCKETMQ_HOME": str(home)}
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_status(self) -> int | None:
        return self._process.poll()

    def has_said(self, text: str) -> bool:
        """Whether this process (not one before it with the same output file) has printed `text`."""
        with self.output.open("rb") as output:
            output.seek(self._seen_from)
            return text.encode() in output.read()

    def end(self, patience: float = 0.0) -> None:
        """End the process and wait for that: SIGTERM, and SIGKILL after `patience` seconds, or at once when 0."""
        if patience:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        self._process.kill()
        self._process.wait()


class RealCluster:
    """One name server and one broker of Apache RocketMQ on loopback, as a context manager.

    Entering returns when a client can use them, some 3 to 12 seconds later. Leaving ends both and deletes the store;
    configuration, output and logs stay in `tmp_dir`.

    Args:
        version: "5.3.3", "4.9.7" or another whose artifacts Maven can find.
        tmp_dir: a directory of its own, for configuration, output, logs and the store.
        namesrv: "host:port" of a name server that runs elsewhere; with it, none is started here.
    """

    cluster_name = "DefaultCluster"
    broker_name = "broker-a"

    def __init__(self, version: str, tmp_dir: Path, *, namesrv: str = "") -> None:
        self.version = version
        self.namesrv = namesrv
        self.broker_addr = ""
        self._home = tmp_dir
        self._jars = Path()
        self._name_server: _Server | None = None
        self._broker: _Server | None = None

    def __enter__(self) -> RealCluster:
        """Start both servers.

        Raises:
            UnavailableError: as for `fetch`.
            StartError: a server ended, or was not ready in time. Neither is left running.
        """
        self._jars = fetch(self.version)
        own_name_server = not self.namesrv
        self._write_files()
        try:
            if own_name_server:
                self._name_server = self._launch("namesrv", "namesrv.NamesrvStartup", _NAME_SERVER_HEAP)
            # At once, not after the name server: it takes longer to reach the point where it registers.
            self.start_broker()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill both servers and delete the store. Idempotent."""
        # A gentle end takes the broker up to half a minute, to save what is deleted next.
        for server in (self._broker, self._name_server):
            if server is not None:
                server.end()
        self._broker = self._name_server = None
        shutil.rmtree(self._home / "store", ignore_errors=True)

    @property
    def broker_pid(self) -> int:
        """The broker's process id, for signals such as SIGSTOP."""
        assert self._broker is not None, "the broker is not running"
        return self._broker.pid

    def stop_broker(self) -> None:
        """End the broker as an operator does: it unregisters and keeps its store."""
        self._end_broker(_STOP_TIMEOUT_S)

    def kill_broker(self) -> None:
        """End the broker with SIGKILL: connections break, nothing is unregistered, the store stays."""
        # Killed between making a file and giving it its length, a 4.9.7 broker cannot open its own store again.
        queues = self._home / "store" / "consumequeue"
        self._wait(
            lambda: all(path.stat().st_size for path in queues.rglob("*") if path.is_file()),
            "the files of the store to have their length", _READY_TIMEOUT_S,
        )
        self._end_broker()

    def _end_broker(self, patience: float = 0.0) -> None:
        assert self._broker is not None, "the broker is not running"
        self._broker.end(patience)
        self._broker = None

    def start_broker(self) -> None:
        """Start the broker (again), on the same port and store, and wait until clients can use it.

        Raises:
            StartError: it ended, or was not ready in time.
        """
        assert self._broker is None, "the broker is running"
        self._broker = broker = self._launch("broker", "broker.BrokerStartup", _BROKER_HEAP)
        self._wait(lambda: broker.has_said("boot success"), "the broker to boot", _READY_TIMEOUT_S)
        self._wait(self._is_registered, "a route for TBW102", _READY_TIMEOUT_S)

    def create_topic(self, name: str, queues: int = 4) -> None:
        """Create a topic on the broker and wait until the name server shows it.

        Raises:
            RefusedError: the broker does not want this topic.
            StartError: the name server does not show it in time.
        """
        remoting.create_topic(self.broker_addr, name, queues)
        self._wait(lambda: self._has_route(name, queues), f"a route for {name}", _ROUTE_TIMEOUT_S)

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of every output and log file, each under its name."""
        parts = []
        logs = self._home / "logs" / "rocketmqlogs"
        for path in (*self._home.glob("*.out"), logs / "namesrv.log", logs / "broker.log"):
            if path.exists():
                with path.open(encoding="utf-8", errors="replace") as text:
                    parts.append(f"--- {path.name}\n" + "".join(deque(text, lines)))
        return "\n".join(parts)

    def _write_files(self) -> None:
        conf = self._home / "conf"
        conf.mkdir(parents=True)
        if not self.namesrv:
            namesrv_port = _free_port((0,))
            self.namesrv = f"127.0.0.1:{namesrv_port}"
            (conf / "namesrv.conf").write_text(_NAME_SERVER_CONF.format(port=namesrv_port))
        broker_port = _free_port(_BROKER_PORT_OFFSETS)
        self.broker_addr = f"127.0.0.1:{broker_port}"
        store = (self._home / "store").as_posix()
        (conf / "broker.conf").write_text(_BROKER_CONF.format(port=broker_port, namesrv=self.namesrv, store=store))
        for name in ("logback_namesrv.xml", "logback_broker.xml"):
            (conf / name).write_text(_LOGBACK)

    def _launch(self, name: str, main_class: str, heap: Sequence[str]) -> _Server:
        command = [find_tool("java"), *JVM_FLAGS, *heap, f"-Duser.home={self._home}", "-cp", f"{self._jars}/*"]
        command += [f"org.apache.rocketmq.{main_class}", "-c", f"conf/{name}.conf"]
        return _Server(name, command, self._home)

    def _is_registered(self) -> bool:
        if self._has_route("TBW102"):
            return True
        # A broker that boots before it has a connection to the name server registers only 10 s later; 5.x lets its own
        # connecting race with its registering, and often loses.
        with contextlib.suppress(OSError):
            remoting.register_broker(self.broker_addr)
        return False

    def _has_route(self, topic: str, queues: int | None = None) -> bool:
        try:
            route = remoting.fetch_route(self.namesrv, topic)
        except OSError:
            return False
        return route is not None and any(queues in (None, data["writeQueueNums"]) for data in route["queueDatas"])

    def _wait(self, ready: Callable[[], bool], what: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not ready():
            for server in (self._name_server, self._broker):
                if server is not None and (status := server.exit_status()) is not None:
                    raise StartError(f"{server.name} {self.version} ended with status {status}\n{self.log_tail()}")
            if time.monotonic() >= deadline:
                raise StartError(f"RocketMQ {self.version}: waited {timeout} s for {what}\n{self.log_tail()}")
            time.sleep(_POLL_S)
