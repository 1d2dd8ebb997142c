"""Fixtures of the interop tests: one real cluster of each version for the whole run, started when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.jars import UnavailableError, fetch, find_tool
from tests.interop.rocketmq import RealCluster

_HERE = Path(__file__).resolve().parent
# Seconds; the first test with a cluster also fetches its jars and starts it.
_TEST_TIMEOUT = 1200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.interop)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_TEST_TIMEOUT))


def _run(version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    cluster = RealCluster(version, tmp_path_factory.mktemp(f"rocketmq-{version}-"))
    try:
        cluster.__enter__()
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def real_533(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """A running name server and broker 5.3.3."""
    yield from _run("5.3.3", tmp_path_factory)


@pytest.fixture(scope="session")
def real_497(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """A running name server and broker 4.9.7."""
    yield from _run("4.9.7", tmp_path_factory)


@pytest.fixture(params=["real_533", "real_497"])
def cluster(request: pytest.FixtureRequest) -> RealCluster:
    """Each real cluster in turn."""
    found: RealCluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["5.3.3", "4.9.7"])
def java_version(request: pytest.FixtureRequest) -> str:
    """Each version of RocketMQ in turn, with what is needed to compile and run its programs."""
    version: str = request.param
    try:
        find_tool("javac")
        fetch(version)
    except UnavailableError as error:
        pytest.skip(str(error))
    return version
