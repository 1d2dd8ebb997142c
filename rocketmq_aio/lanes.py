"""Lanes: the queues of a route with everything constant prepared.

*Lane.* One queue: its encoded header, and its broker's connection while there is one. It is made when a route arrives
and dies with it; a route that changes brings new lanes. What is left for a send to do is in `send.py`.

This file knows headers and connections, and nothing of messages.

Source: `TopicPublishInfo.java` (5.3.3) for the rotation and its random start.
"""

from __future__ import annotations

from rocketmq_aio.codes import VERSION, RequestCode
from rocketmq_aio.environment import Environment
from rocketmq_aio.message import MessageQueue
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.net.pool import Pool
from rocketmq_aio.routes import TopicRoute
from rocketmq_aio.wire.headers import SendMessageRequestHeaderV2
from rocketmq_aio.wire.template import send_template

__all__ = ["BrokerSlot", "Lane", "LaneTable", "Lanes"]

#: The topic after whose example a broker creates a missing one, and with how many queues, as in Java.
DEFAULT_TOPIC = "TBW102"
DEFAULT_TOPIC_QUEUES = 4


class BrokerSlot:
    """One broker as a producer sees it: its address, and its connection while there is one."""

    __slots__ = ("addr", "connection", "name")

    def __init__(self, name: str, addr: str) -> None:
        self.name = name
        self.addr = addr
        self.connection: Connection | None = None


class Lane:
    """One queue with everything that is constant for it.

    Attributes:
        queue: the queue.
        broker: its broker.
        template: the encoded header of a send; empty until the queue's first turn, which prepares it.
        plain_template: the same for messages without properties of their own; prepared together with it.
        oneway_template: the same for one-way sends.
        next: whose turn it is after this one.
    """

    __slots__ = ("broker", "next", "oneway_template", "plain_template", "queue", "template")

    def __init__(self, queue: MessageQueue, broker: BrokerSlot) -> None:
        self.queue = queue
        self.broker = broker
        self.template = b""
        self.plain_template = b""
        self.next = self
        self.oneway_template = b""


class Lanes:
    """The lanes of one route, and whose turn it is."""

    __slots__ = ("count", "lane", "lanes", "route")

    def __init__(self, route: TopicRoute, lanes: tuple[Lane, ...], cursor: int) -> None:
        self.route = route
        self.lanes = lanes
        self.count = len(lanes)
        for lane, following in zip(lanes, (*lanes[1:], *lanes[:1]), strict=True):
            lane.next = following
        self.lane = lanes[cursor] if lanes else None  # whose turn it is

    def take(self) -> Lane:
        """The lane whose turn it is; then it is the next one's. For a route that has queues."""
        lane = self.lane
        assert lane is not None
        self.lane = lane.next
        return lane


class LaneTable:
    """Topic → lanes: the producer's side of the route table.

    Args:
        group: the producer group.
        pool: where connections are.
        environment: dice, for where each rotation begins.
    """

    def __init__(self, group: str, pool: Pool, environment: Environment) -> None:
        self.lanes: dict[str, Lanes] = {}
        self.brokers: dict[str, BrokerSlot] = {}
        self._group = group
        self._pool = pool
        self._rng = environment.entropy("rotation")

    def replace(self, route: TopicRoute) -> None:
        """A route is new, or has changed: make its lanes."""
        lanes = tuple(self._lane(queue, route.master_addrs[queue.broker_name]) for queue in route.queues)
        # Producers that start together must not all begin with the same queue.
        cursor = self._rng.randrange(len(lanes)) if lanes else 0
        self.lanes[route.topic] = Lanes(route, lanes, cursor)
        used = {lane.broker.name for known in self.lanes.values() for lane in known.lanes}
        for name in [name for name in self.brokers if name not in used]:
            del self.brokers[name]  # it has left; what is in flight there goes on

    def _lane(self, queue: MessageQueue, addr: str) -> Lane:
        broker = self.brokers.get(queue.broker_name)
        if broker is None or broker.addr != addr:
            broker = self.brokers[queue.broker_name] = BrokerSlot(queue.broker_name, addr)
            broker.connection = self._pool.get(addr)
        return Lane(queue, broker)

    def prepare(self, lane: Lane, flag: int) -> bytes:
        """The header of a send on `lane`, encoded but for what differs from message to message.

        Encoded at a queue's first turn: a topic may have ten thousand queues, and a producer may use few of them.

        Args:
            lane: the queue.
            flag: 0, or one-way.
        """
        header = SendMessageRequestHeaderV2(
            producer_group=self._group,
            topic=lane.queue.topic,
            default_topic=DEFAULT_TOPIC,
            default_topic_queue_nums=DEFAULT_TOPIC_QUEUES,
            queue_id=lane.queue.queue_id,
            sys_flag=0,
            born_timestamp=0,
            flag=0,
            properties="",
            reconsume_times=0,
            unit_mode=False,
            batch=False,
            broker_name=lane.queue.broker_name,
        )
        return send_template(header, code=RequestCode.SEND_MESSAGE_V2, flag=flag, version=VERSION)

    def connection_lost(self, connection: Connection) -> None:
        """A connection is gone: its lanes go through the slow path, which makes a new one."""
        for broker in self.brokers.values():
            if broker.connection is connection:
                broker.connection = None
