"""Crashes of background tasks, which somebody reads, and forks, which touch nothing of the parent's."""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
import warnings
from typing import Any

import pytest

from broker_sim.worlds.runner import run_virtual
from rocketmq_aio.environment import Environment
from rocketmq_aio.errors import ConnectError, ForkedError, RocketMQError, StateError
from rocketmq_aio.lifecycle import Service, State
from rocketmq_aio.message import Message
from rocketmq_aio.producer import Producer
from tests.unit.net.fakes import turns, virtual_time
from tests.unit.test_lifecycle import NAME, forever, running

# --- crashes


async def crash() -> None:
    """A bug."""
    raise ZeroDivisionError("division")


@virtual_time
async def test_a_crash_fails_the_service_and_the_next_call_raises_it(caplog: pytest.LogCaptureFixture) -> None:
    """Logged once with its traceback, told to the owner once, and the cause of whatever is asked afterwards."""
    told: list[str] = []
    service = running()
    service.on_crash = lambda: told.append("crash")
    service.spawn("work", crash())
    service.spawn("more work", crash())
    await turns(3)
    assert service.state is State.FAILED and told == ["crash"]
    assert isinstance(service.crash, ZeroDivisionError)
    errors = [service.state_error() for _ in range(2)]
    assert errors[0] is not errors[1]
    assert all(error.__cause__ is service.crash for error in errors)
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in records] == [f"{NAME} failed"]
    assert records[0].exc_info is not None and "crash" in "".join(traceback.format_tb(records[0].exc_info[2]))


def test_a_producer_raises_the_crash_of_its_background_work() -> None:
    """What was in the background comes to the foreground: at the next send, and when it is closed."""

    async def main(environment: Environment) -> None:
        producer = Producer("group", namesrv="name-server:9876", environment=environment)
        await producer.start()
        producer._service.every("step", 1, crash, first=1)
        await asyncio.sleep(2)
        for call in (lambda: producer.send(Message("T", b"x")), producer.ping, lambda: producer.queues("T")):
            with pytest.raises(StateError, match=r"failed: ZeroDivisionError\('division'\)") as caught:
                await call()
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert producer.state is State.FAILED
        with pytest.raises(StateError, match="failed"):
            await producer.aclose()

    run_virtual(main)


@virtual_time
async def test_a_crash_without_an_owner_is_still_a_crash() -> None:
    """Nobody has to listen."""
    service = running()
    service.spawn("work", crash())
    await turns(3)
    assert service.state is State.FAILED


@virtual_time
async def test_a_crash_while_closing_counts_and_one_after_it_does_not() -> None:
    """Closing reports it at its end; what has ended stays ended."""
    for state, after in ((State.CLOSING, State.FAILED), (State.CLOSED, State.CLOSED)):
        service = running()
        service.spawn("work", crash())
        service.state = state
        await turns(3)
        assert service.state is after
        assert (service.crash is not None) == (after is State.FAILED)


@virtual_time
async def test_an_error_of_this_library_is_no_crash() -> None:
    """It has its reader: whoever awaits the task."""

    async def work() -> None:
        raise ConnectError("refused")

    service = running()
    task = service.spawn("work", work())
    with pytest.raises(ConnectError):
        await task
    assert service.state is State.RUNNING and service.crash is None


# --- forks


def in_child(check: Any) -> str:
    """What `check()` returns, or how it fails, in a forked child that runs nothing else of the tests."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: forking while other threads run
        pid = os.fork()
    if pid == 0:
        try:
            text = str(check())
        except BaseException:
            text = traceback.format_exc()
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    assert os.waitpid(pid, 0) == (pid, 0)
    return text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork, so nothing can be inherited by a fork")
def test_a_fork_unbinds_the_child_and_leaves_the_parent_alone() -> None:
    """The child gets a `ForkedError` from every door and touches nothing; the parent notices nothing."""

    def raised(call: Any) -> str:
        try:
            call()
        except RocketMQError as error:
            return type(error).__name__
        return "nothing"

    async def main() -> None:
        new, service = Service("another"), running()
        task = service.spawn("work", forever())
        await turns(1)
        text = in_child(
            lambda: (
                service.forked, service.loop, service.task_count, type(service.state_error()).__name__,
                raised(service.begin), raised(new.begin), raised(lambda: service.check_thread("x")), task.cancelled(),
                type(Service("a new one").state_error()).__name__,
            )
        )
        expected = (True, None, 0, "ForkedError", "ForkedError", "ForkedError", "nothing", False, "NotStartedError")
        assert text == str(expected)
        assert "Make a new one in the child process." in in_child(lambda: str(service.state_error()))
        assert issubclass(ForkedError, StateError)
        assert not service.forked and service.task_count == 1 and service.loop is asyncio.get_running_loop()
        service.cancel_tasks()
        await service.join_tasks()

    asyncio.run(main())
