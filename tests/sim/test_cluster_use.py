"""How a cluster may be used: arguments, order of use, threads, forks, the end of the process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from broker_sim.cluster import Cluster
from broker_sim.config import BrokerConfig, broker_configs
from broker_sim.worlds.environments import memory
from broker_sim.worlds.runner import run_virtual
from rocketmq_aio.environment import Environment, ProcessIdentity
from rocketmq_aio.errors import ClosedError, ConfigError, NotStartedError, StateError, WrongLoopError


def in_virtual_time(main: Callable[[Cluster], Awaitable[None]], **options: Any) -> None:
    async def run(environment: Environment) -> None:
        async with Cluster(environment=environment, **options) as cluster:
            await main(cluster)

    run_virtual(run)


BAD: list[dict[str, Any]] = [
    {"brokers": -1}, {"brokers": True}, {"brokers": "two"}, {"brokers": ["broker-a"]}, {"brokers": 1001},
    {"brokers": [BrokerConfig(name="b"), BrokerConfig(name="b")]}, {"name_servers": 0}, {"name_servers": 1.5},
    {"port": 70_000}, {"port": "9876"}, {"port": 65_535}, {"history_max": -1}, {"host": "a b"}, {"host": 5},
    {"advertise": "host:10911"[:4] + "/x"}, {"environment": "loopback"}, {"topics": "T"}, {"topics": 5},
    {"host": ""}, {"host": "localhost:9876"}, {"host": "a\0b"}, {"advertise": ""}, {"advertise": "a:1"},
    {"topics": {"T": -1}}, {"topics": {"T": "4"}}, {"topics": ["bad topic"]}, {"topics": [5]}, {"topics": ["TBW102"]},
]  # fmt: skip


@pytest.mark.parametrize("options", BAD, ids=repr)
def test_arguments_that_cannot_be(options: dict[str, Any]) -> None:
    """A wrong argument is refused before anything is opened, with its name in the text."""
    with pytest.raises(ConfigError, match=r"Cluster: "):
        Cluster(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "a b"}, {"name": 5}, {"cluster_name": ""}, {"region_id": "x\x01"}, {"port": -1}, {"namesrv": 5},
        {"namesrv": [5]}, {"max_message_bytes": 0}, {"serialize_type": 7}, {"serialize_type": True},
    ],
    ids=repr,
)  # fmt: skip
def test_broker_configs_that_cannot_be(options: dict[str, Any]) -> None:
    """A broker config that exists is valid."""
    with pytest.raises(ConfigError, match="BrokerConfig: "):
        BrokerConfig(**options)


def test_addresses_of_name_servers_are_checked() -> None:
    """They are split, get the usual port and must be addresses."""
    assert BrokerConfig(namesrv=" a ; b:1;[::1];").namesrv == ("a:9876", "b:1", "[::1]:9876")
    with pytest.raises(ConfigError, match="is not an address"):
        BrokerConfig(namesrv="http://host:1")


def test_names_of_many_brokers() -> None:
    """After z come two letters."""
    names = [config.name for config in broker_configs(30)]
    assert (names[0], names[25], names[26], names[29]) == ("broker-a", "broker-z", "broker-aa", "broker-ad")


def test_unknown_servers_and_topics() -> None:
    """What does not exist is named, and what exists is listed; a refused topic changes nothing."""

    async def main(cluster: Cluster) -> None:
        with pytest.raises(ConfigError, match=r"no broker 'broker-z'\. Its brokers: broker-a, broker-b"):
            cluster.broker("broker-z")
        with pytest.raises(ConfigError, match="no broker 'x'"):
            cluster.messages("T", broker="x")
        for index in (1, -1, True):
            with pytest.raises(ConfigError, match="no name server"):
                cluster.name_server(index)
        with pytest.raises(ConfigError, match="no broker 'x'"):
            cluster.create_topic("T", brokers=["broker-a", "x"])
        for options in ({"queues": -1}, {"permission": 16}, {"brokers": "broker-a"}):
            with pytest.raises(ConfigError):
                cluster.create_topic("T", **options)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="'bad topic' cannot be a topic"):
            cluster.create_topic("bad topic")
        assert "T" not in cluster.broker("broker-a").store.topics()
        assert repr(cluster.broker("broker-a")) == "<BrokerHandle broker-a>"

    in_virtual_time(main, brokers=2)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda cluster: cluster.messages("T", queue="x"), "queue must be the number of a queue, from 0, not 'x'"),
        (lambda cluster: cluster.messages("T", queue=True), "queue must be"),
        (lambda cluster: cluster.messages("T", queue=-1), "queue must be"),
        (lambda cluster: cluster.messages(5), "Cluster.messages: topic must be a topic's name, a str, not 5"),
        (lambda cluster: cluster.messages([]), "topic must be"),
        (lambda cluster: cluster.messages("T", broker=[]), r"no broker \[\]"),
        (lambda cluster: cluster.broker(5), "no broker 5. Its brokers: broker-a"),
        (lambda cluster: cluster.broker("broker-a").store.messages(5), "store.messages: topic must be"),
        (lambda cluster: cluster.broker("broker-a").store.max_offset("T", "x"), "store.max_offset: queue must be"),
        (lambda cluster: cluster.requests("x"), "such as RequestCode.HEART_BEAT, not 'x'"),
        (lambda cluster: cluster.requests([310]), r"not \[310\].* requests\(\*SEND\)"),
        (lambda cluster: cluster.create_topic("T", brokers=5), "brokers must be a sequence of names, or None.*, not 5"),
        (lambda cluster: cluster.create_topic("T", brokers="broker-a"), r"brokers=\['broker-a'\]"),
        (lambda cluster: cluster.create_topic("T", brokers=[[]]), r"no broker \[\]"),
        (lambda cluster: cluster.create_topic(5), "5 cannot be a topic"),
    ],
)
def test_wrong_arguments_of_methods(use: Callable[[Cluster], Any], words: str) -> None:
    """Each is a `ConfigError` that names the value and says what is wanted."""

    async def main(cluster: Cluster) -> None:
        with pytest.raises(ConfigError, match=words):
            use(cluster)

    in_virtual_time(main)


def test_all_addresses_of_ipv6() -> None:
    """Where servers listen on ::, clients are told an IPv6 address; if none is known, it must be said."""

    async def main(environment: Environment) -> None:
        with pytest.raises(ConfigError, match=r"no address of this machine is known.* advertise"):
            Cluster(host="::", environment=environment)
        identity = ProcessIdentity(address=ip_address("2001:db8::7").packed, pid=1, host="2001:db8::7")
        there = msgspec.structs.replace(environment, identity=lambda: identity)
        async with Cluster(host="::", environment=there) as cluster:
            assert cluster.namesrv.startswith("[2001:db8::7]:")
        async with Cluster(host="::", advertise="::1", environment=environment) as cluster:
            assert cluster.broker("broker-a").address.startswith("[::1]:")

    run_virtual(main)


def test_use_outside_its_time() -> None:
    """Before it is opened and after it is closed a cluster says so; it cannot be opened twice."""
    cluster = Cluster(topics=["T"])
    for use in (lambda: cluster.namesrv, lambda: cluster.messages("T"), lambda: cluster.broker("broker-a")):
        with pytest.raises(NotStartedError):
            use()
    with cluster:
        handle = cluster.broker("broker-a")
        with pytest.raises(StateError, match="open already"):
            cluster.__enter__()
    assert cluster.namesrv
    for use in (lambda: cluster.messages("T"), lambda: cluster.create_topic("U"), lambda: handle.stop()):
        with pytest.raises(ClosedError):
            use()
    with pytest.raises(StateError, match="closed already"):
        cluster.__enter__()


def test_use_from_other_threads() -> None:
    """Opened in a loop, a cluster belongs to that thread."""

    async def main() -> None:
        async with Cluster(environment=memory()) as cluster:
            errors: list[BaseException] = []

            def use() -> None:
                for call in (lambda: cluster.messages("T"), lambda: cluster.broker("broker-a")):
                    with pytest.raises(WrongLoopError, match="belongs to the thread of its loop") as caught:
                        call()
                    errors.append(caught.value)

            thread = threading.Thread(target=use)
            thread.start()
            thread.join()
            assert len(errors) == 2

    asyncio.run(main())


def test_use_from_the_own_thread() -> None:
    """In the cluster's own thread plain methods run directly, and what would wait for itself is refused."""
    with Cluster(topics=["T"]) as cluster:
        broker = cluster.broker("broker-a")

        def inside() -> None:
            cluster.create_topic("U")
            assert cluster.messages("U") == []
            with pytest.raises(StateError, match="would wait for its own thread"):
                broker.stop()

        cluster._run(inside)
        assert broker.running


def test_blocked_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """When something holds the cluster's loop, a call gives up after its time and says so."""
    release = threading.Event()
    with Cluster() as cluster:
        monkeypatch.setattr("broker_sim.threads.CALL_TIMEOUT", 0.01)
        with pytest.raises(StateError, match="did not answer within"):
            cluster._run(release.wait)
        release.set()
        monkeypatch.undo()
        assert cluster.messages("T") == []


def test_errors_of_calls_come_through() -> None:
    """What a call raises in the cluster's thread is raised to its caller, a TimeoutError too."""

    def fail() -> None:
        raise TimeoutError("its own")

    with Cluster() as cluster:
        with pytest.raises(TimeoutError, match="its own"):
            cluster._run(fail)


def test_thread_needs_the_real_world() -> None:
    """A world without sockets belongs to one loop: it cannot be in a thread of its own."""
    with pytest.raises(ConfigError, match="another"):
        Cluster(environment=memory()).__enter__()


def test_no_loop_for_a_thread() -> None:
    """Without file descriptors for a loop, `with` raises at once; the cluster is closed, and no thread is left."""
    program = """
import resource, threading
from broker_sim.cluster import Cluster
from rocketmq_aio.errors import ClosedError, StateError

cluster = Cluster()
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
try:
    cluster.__enter__()
except StateError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
try:
    cluster.messages("T")
except ClosedError:
    print(threading.active_count())
"""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    words, threads = done.stdout.splitlines()
    assert words.startswith("The cluster's thread cannot have an event loop: ") and "ulimit" in words
    assert threads == "1"


def test_no_thread_for_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that gives no thread is an error in words."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(StateError, match="thread cannot start: can't start new thread"):
        Cluster().__enter__()


def test_failed_start_in_a_thread_ends_the_thread() -> None:
    """When a port is taken the error comes out of `with`, and no thread is left."""
    before = threading.active_count()
    with Cluster() as cluster:
        port = int(cluster.namesrv.rpartition(":")[2])
        with pytest.raises(StateError, match="name-server-0 cannot listen"):
            Cluster(port=port, brokers=0).__enter__()
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_fork() -> None:
    """A child can use the address and nothing else; it holds no listening socket, and the parent goes on."""
    program = """
import os, socket, sys
from broker_sim.cluster import Cluster
from rocketmq_aio.errors import ForkedError

closed, say_closed = os.pipe()
connected, say_connected = os.pipe()
with Cluster(topics=["T"]) as cluster:
    host, port = cluster.namesrv.split(":")
    pid = os.fork()
    if pid == 0:
        for use in (lambda: cluster.messages("T"), lambda: cluster.create_topic("U"), lambda: cluster.name_server()):
            try:
                use()
            except ForkedError:
                continue
            os._exit(3)
        socket.create_connection((host, int(port))).close()
        cluster.__exit__(None, None, None)
        os.write(say_connected, b"x")
        os.read(closed, 1)
        try:
            socket.create_connection((host, int(port)))
        except ConnectionRefusedError:
            os._exit(0)
        os._exit(4)
    os.read(connected, 1)
    assert cluster.messages("T") == []
os.write(say_closed, b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    # From 3.12 on Python warns of forks where there are threads; that is what this is about.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("first", ["import broker_sim.simulation", "from broker_sim.simulation import Simulate", ""])
def test_simulate_is_the_decorator(first: str) -> None:
    """`broker_sim.simulate` is what tests are decorated with, whoever imported its file before."""
    program = f"{first}\nimport broker_sim\nassert broker_sim.simulate.run and broker_sim.simulate(seed=1)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_process_ends_with_an_open_cluster() -> None:
    """A program that forgets to close its cluster ends quietly all the same."""
    program = "from broker_sim.cluster import Cluster\ncluster = Cluster()\ncluster.__enter__()\nprint(cluster.namesrv)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("127.0.0.1:")
