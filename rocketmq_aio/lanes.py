"""Lanes: the queues of a route with everything constant prepared.

*Lane.* One queue: its encoded header, and its broker's connection while there is one. It is made when a route arrives
and dies with it; a route that changes brings new lanes, and nobody edits one. What is left for a send to do is in
`send.py`.

This file knows headers and connections, and nothing of messages.

Source: `TopicPublishInfo.java` (5.3.3) for the rotation and its random start.
"""

from __future__ import annotations

from rocketmq_aio.codes import FLAG_ONEWAY, VERSION, RequestCode
from rocketmq_aio.config import ProducerConfig
from rocketmq_aio.environment import Environment
from rocketmq_aio.message import MessageQueue
from rocketmq_aio.net.connection import Connection
from rocketmq_aio.net.pool import Pool
from rocketmq_aio.routes import TopicRoute
from rocketmq_aio.wire.headers import SendMessageRequestHeaderV2
from rocketmq_aio.wire.template import send_template

__all__ = ["BrokerSlot", "Lane", "LaneTable", "Lanes"]


class BrokerSlot:
    """One broker as a producer sees it: its address, and its connection while there is one."""

    __slots__ = ("addr", "connection", "name")

    def __init__(self, name: str, addr: str) -> None:
        self.name = name
        self.addr = addr
        self.connection: Connection | None = None


class Lane:
    """One queue with everything that is constant for it."""

    __slots__ = ("broker", "oneway_template", "queue", "template")

    def __init__(self, queue: MessageQueue, broker: BrokerSlot, template: bytes, oneway_template: bytes) -> None:
        self.queue = queue
        self.broker = broker
        self.template = template
        self.oneway_template = oneway_template


class Lanes:
    """The lanes of one route, and whose turn it is."""

    __slots__ = ("count", "cursor", "lanes", "route")

    def __init__(self, route: TopicRoute, lanes: tuple[Lane, ...], cursor: int) -> None:
        self.route = route
        self.lanes = lanes
        self.count = len(lanes)
        self.cursor = cursor


class LaneTable:
    """Topic → lanes: the producer's side of the route table.

    Args:
        group: the producer group.
        config: what the headers say.
        pool: where connections are.
        environment: dice, for where each rotation begins.
    """

    def __init__(self, group: str, config: ProducerConfig, pool: Pool, environment: Environment) -> None:
        self.lanes: dict[str, Lanes] = {}
        self.brokers: dict[str, BrokerSlot] = {}
        self._group = group
        self._config = config
        self._pool = pool
        self._rng = environment.entropy("rotation")

    def replace(self, route: TopicRoute) -> None:
        """A route is new, or has changed: make its lanes."""
        lanes = tuple(self._lane(queue, route.master_addrs[queue.broker_name]) for queue in route.queues)
        # Producers that start together must not all begin with the same queue.
        cursor = self._rng.randrange(len(lanes)) if lanes else 0
        self.lanes[route.topic] = Lanes(route, lanes, cursor)

    def _lane(self, queue: MessageQueue, addr: str) -> Lane:
        broker = self.brokers.get(queue.broker_name)
        if broker is None or broker.addr != addr:
            broker = self.brokers[queue.broker_name] = BrokerSlot(queue.broker_name, addr)
            broker.connection = self._pool.get(addr)
        header = SendMessageRequestHeaderV2(
            producer_group=self._group,
            topic=queue.topic,
            default_topic=self._config.create_topic_key,
            default_topic_queue_nums=self._config.default_topic_queues,
            queue_id=queue.queue_id,
            sys_flag=0,
            born_timestamp=0,
            flag=0,
            properties="",
            reconsume_times=0,
            unit_mode=False,
            batch=False,
            broker_name=queue.broker_name,
        )
        code = RequestCode.SEND_MESSAGE_V2
        return Lane(
            queue,
            broker,
            send_template(header, code=code, flag=0, version=VERSION),
            send_template(header, code=code, flag=FLAG_ONEWAY, version=VERSION),
        )

    def connection_lost(self, connection: Connection) -> None:
        """A connection is gone: its lanes go through the slow path, which makes a new one."""
        for broker in self.brokers.values():
            if broker.connection is connection:
                broker.connection = None
