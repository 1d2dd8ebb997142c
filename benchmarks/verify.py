"""What was acknowledged against what is stored.

Every acknowledged message must be stored once, at the queue and offset that its result names, with its body; nothing
else may be stored, and the offsets of a queue have no gaps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rocketmq_aio import MessageExt, SendResult

__all__ = ["Stored", "differences", "stored_of", "summary"]

SHOWN_MAX = 10


class Stored(NamedTuple):
    """A stored message, as far as it is compared. A tuple, because a million of them go through a pipe."""

    message_id: str
    broker_name: str
    queue_id: int
    queue_offset: int
    body: bytes


def stored_of(messages: Iterable[MessageExt]) -> list[Stored]:
    """What a cluster has stored."""
    return [
        Stored(one.message_id, one.queue.broker_name, one.queue.queue_id, one.queue_offset, one.body)
        for one in messages
    ]


def differences(acknowledged: Sequence[tuple[SendResult, bytes]], stored: Sequence[Stored]) -> list[str]:
    """One line for each difference.

    Args:
        acknowledged: results, each with the body that was sent.
        stored: everything in the store.
    """
    found: list[str] = []
    places = {message.message_id: message for message in stored}
    if len(places) != len(stored):
        copies = Counter(message.message_id for message in stored)
        found += [f"{message_id} is stored {count} times" for message_id, count in copies.items() if count > 1]
    for result, body in acknowledged:
        message = places.pop(result.message_id, None)
        queue = result.queue
        if message is None:
            found.append(f"{result.message_id} was acknowledged and is not stored, or was acknowledged twice")
        elif message != (result.message_id, queue.broker_name, queue.queue_id, result.queue_offset, body):
            where = f"{queue.broker_name} queue {queue.queue_id} offset {result.queue_offset}"
            there = f"{message.broker_name} queue {message.queue_id} offset {message.queue_offset}"
            bodies = "" if message.body == body else ", with another body"
            found.append(f"{result.message_id} was acknowledged at {where} and is stored at {there}{bodies}")
    found += [f"{message_id} is stored and was never acknowledged" for message_id in places]
    return found + _gaps(stored)


def _gaps(stored: Sequence[Stored]) -> list[str]:
    offsets: dict[tuple[str, int], list[int]] = {}
    for message in stored:
        offsets.setdefault((message.broker_name, message.queue_id), []).append(message.queue_offset)
    return [
        f"{broker_name} queue {queue_id} has {len(numbers)} messages, but not the offsets 0 to {len(numbers) - 1}"
        for (broker_name, queue_id), numbers in offsets.items()
        if sorted(numbers) != list(range(len(numbers)))
    ]


def summary(found: Sequence[str]) -> str:
    """The first few differences, and how many there are."""
    more = [f"… and {len(found) - SHOWN_MAX:,} more"] if len(found) > SHOWN_MAX else []
    return "\n".join([*found[:SHOWN_MAX], *more])
