"""Where a topic's messages can go: an immutable snapshot of its route, compared by value.

A refresh builds a new `TopicRoute`; if it equals the old one the old one stays, otherwise one assignment replaces it.
Nobody edits a route, so that nobody needs a lock (Java holds one during the network call).

Source: `MQClientInstance.topicRouteData2TopicPublishInfo` (5.3.3): queues of writable brokers that have a master.
Differs: order topics and static topics are not read yet.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rocketmq_aio.codes import Permission
from rocketmq_aio.errors import LocalProtocolError
from rocketmq_aio.message import MessageQueue
from rocketmq_aio.wire.bodies import TopicRouteData

__all__ = ["TopicRoute", "topic_route"]

MASTER_ID = 0
#: Queues of one topic at all brokers. RocketMQ has no limit; the bytes of a stranger need one.
QUEUES_MAX = 65_536
#: Of a broker's name, which goes into the header of every queue, and of its address.
NAME_CHARACTERS_MAX = 255


class TopicRoute(msgspec.Struct, frozen=True):
    """A topic's route, for producers.

    Attributes:
        topic: the topic's name.
        queues: the writable queues, by broker name and queue id.
        master_addrs: broker name → `host:port` of its master, for all brokers of the topic.
    """

    topic: str
    queues: tuple[MessageQueue, ...]
    master_addrs: Mapping[str, str]


def topic_route(topic: str, data: TopicRouteData) -> TopicRoute:
    """The snapshot of what a name server answered. Name servers list brokers in any order; here they are sorted.

    Raises:
        LocalProtocolError: it claims more queues than any topic has, or longer names.
    """
    for broker in data.broker_datas:
        master = broker.broker_addrs.get(MASTER_ID, "")
        if len(broker.broker_name) > NAME_CHARACTERS_MAX or len(master) > NAME_CHARACTERS_MAX:
            raise LocalProtocolError(
                f"A broker's name has {len(broker.broker_name):,} characters, its address {len(master):,}; "
                f"the limit is {NAME_CHARACTERS_MAX}."
            )
    total = 0
    for queue_data in data.queue_datas:
        total += queue_data.write_queue_nums
        if queue_data.write_queue_nums < 0 or total > QUEUES_MAX:
            raise LocalProtocolError(
                f"{queue_data.broker_name!r} claims {queue_data.write_queue_nums:,} queues of {topic!r}, which makes "
                f"{total:,} with those before; the limit is 0 to {QUEUES_MAX:,} for all brokers together."
            )
    masters = {
        broker.broker_name: broker.broker_addrs[MASTER_ID]
        for broker in sorted(data.broker_datas, key=lambda broker: broker.broker_name)
        if MASTER_ID in broker.broker_addrs
    }
    # By name, because a server may list a broker twice.
    by_name = {queue_data.broker_name: queue_data for queue_data in data.queue_datas}
    queues = tuple(
        MessageQueue(topic, queue_data.broker_name, queue_id)
        for queue_data in sorted(by_name.values(), key=lambda queue_data: queue_data.broker_name)
        if queue_data.perm & Permission.WRITE and queue_data.broker_name in masters
        for queue_id in range(queue_data.write_queue_nums)
    )
    return TopicRoute(topic, queues, masters)
