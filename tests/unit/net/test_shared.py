"""Waiting for work that others wait for too: leaving, failing and closing, each without harm to the others."""

from __future__ import annotations

import asyncio
import traceback

import pytest

from rocketmq_aio.errors import ClosedError, ConnectError
from rocketmq_aio.net.shared import wait_shared
from tests.unit.net.fakes import turns, virtual_time

Gate = asyncio.Future


async def pass_gate(gate: Gate[str]) -> str:
    """The shared work: over when the test opens the gate."""
    return await gate


def work() -> tuple[Gate[str], asyncio.Task[str]]:
    """A gate, and a task that waits at it."""
    gate = asyncio.get_running_loop().create_future()
    return gate, asyncio.ensure_future(pass_gate(gate))


@virtual_time
async def test_all_who_wait_get_the_result() -> None:
    """Also one who comes when it is done."""
    gate, task = work()
    waiters = [asyncio.ensure_future(wait_shared(task, "it")) for _ in range(2)]
    await turns(1)
    gate.set_result("result")
    assert [await waiter for waiter in waiters] == ["result", "result"]
    assert await wait_shared(task, "it") == "result"


@virtual_time
async def test_one_who_leaves_does_not_end_it() -> None:
    """The task goes on for the others, and for itself when nobody is left."""
    gate, task = work()
    waiters = [asyncio.ensure_future(wait_shared(task, "it")) for _ in range(2)]
    await turns(1)
    waiters[0].cancel()
    await turns(2)
    assert waiters[0].cancelled() and not task.done()
    waiters[1].cancel()
    await turns(2)
    assert not task.done()
    gate.set_result("result")
    assert await task == "result"


@virtual_time
async def test_each_who_waits_gets_an_error_of_its_own() -> None:
    """They are raised, and one object raised in two places would mix the tracebacks; the task's error is the cause."""
    gate, task = work()

    async def wait_here() -> None:
        await wait_shared(task, "it")

    async def wait_there() -> None:
        await wait_shared(task, "it")

    waiters = [asyncio.ensure_future(wait()) for wait in (wait_here, wait_there)]
    await turns(1)
    gate.set_exception(ConnectError("refused", address="a:1"))
    await asyncio.wait(waiters)
    here, there = (waiter.exception() for waiter in waiters)
    assert here is not there
    for error in (here, there):
        assert type(error) is ConnectError and str(error) == "refused" and error.address == "a:1"
        assert error.__cause__ is task.exception()
    assert "wait_there" not in [frame.name for frame in traceback.extract_tb(here.__traceback__)]


@virtual_time
async def test_a_bug_arrives_as_it_is() -> None:
    """Only errors of this library are made anew."""
    gate, task = work()
    gate.set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError) as caught:
        await wait_shared(task, "it")
    assert caught.value is task.exception()


@virtual_time
async def test_a_cancelled_task_is_no_cancelled_caller() -> None:
    """The owner closes and cancels the work: whoever waits was not cancelled, and is told what happened."""
    _, task = work()
    waiter = asyncio.ensure_future(wait_shared(task, "a connection to broker-a"))
    await turns(1)
    task.cancel()
    await asyncio.wait([waiter])
    assert not waiter.cancelled()
    assert isinstance(waiter.exception(), ClosedError)
    assert str(waiter.exception()) == "Closed while waiting for a connection to broker-a."


@virtual_time
async def test_cancelled_with_its_owner_it_is_cancelled() -> None:
    """When both happen in one turn, the caller's own cancellation is what it must see."""
    _, task = work()
    waiter = asyncio.ensure_future(wait_shared(task, "it"))
    await turns(1)
    task.cancel()
    waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled()


@virtual_time
async def test_a_deadline_around_it_is_a_timeout() -> None:
    """`asyncio.timeout` works by cancelling, and gets its `TimeoutError`."""
    _, task = work()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await wait_shared(task, "it")
    assert not task.done()
    task.cancel()
