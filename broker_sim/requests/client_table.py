"""Who is connected to a broker: the producers and consumers of each group.

A member of a group is a connection, not a client id; a lost connection leaves all its groups. The subscriptions of a
consumer group are those of the member that subscribed last: a topic's is replaced by a newer version only, and topics
that a heartbeat does not list are gone.

Source: `ConsumerManager.java`, `ConsumerGroupInfo.java`, `ProducerManager.java` (5.3.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_sim.requests.names import group_name_is_legal
from rocketmq_aio.wire.bodies import ConsumerData, HeartbeatData, SubscriptionData

if TYPE_CHECKING:
    from rocketmq_aio.net.connection import Connection

__all__ = ["ClientTable", "ConsumerGroup"]


class ConsumerGroup:
    """One consumer group as a broker knows it.

    Attributes:
        members: connection → client id.
        subscriptions: topic → what the group wants of it.
        fingerprint: of the last full heartbeat of the second kind, or 0.
    """

    def __init__(self) -> None:
        self.members: dict[Connection, str] = {}
        self.subscriptions: dict[str, SubscriptionData] = {}
        self.fingerprint = 0

    def subscribe(self, data: ConsumerData) -> None:
        """Take the subscriptions of a heartbeat."""
        known = self.subscriptions
        self.subscriptions = {
            new.topic: old if (old := known.get(new.topic)) is not None and old.sub_version >= new.sub_version else new
            for new in data.subscription_data_set
        }


class ClientTable:
    """The producers and consumers of one broker.

    Attributes:
        producers: group → connection → client id.
        consumers: group → its members and subscriptions.
    """

    def __init__(self) -> None:
        self.producers: dict[str, dict[Connection, str]] = {}
        self.consumers: dict[str, ConsumerGroup] = {}

    def take_heartbeat(self, connection: Connection, data: HeartbeatData) -> bool:
        """Register what a client says of itself.

        Returns:
            Whether the client should send its subscriptions in full next time.
        """
        for producer in data.producer_data_set:
            self.producers.setdefault(producer.group_name, {})[connection] = data.client_id
        changed = not data.heartbeat_fingerprint
        for consumer in data.consumer_data_set:
            if not group_name_is_legal(consumer.group_name):
                continue
            group = self.consumers.setdefault(consumer.group_name, ConsumerGroup())
            group.members[connection] = data.client_id
            if data.heartbeat_fingerprint:
                changed |= group.fingerprint != data.heartbeat_fingerprint
                if not data.without_sub:
                    group.fingerprint = data.heartbeat_fingerprint
            if not data.without_sub:
                group.subscribe(consumer)
        return changed

    def remove(self, connection: Connection, *, producer: str | None, consumer: str | None) -> None:
        """Take a connection out of a producer group, a consumer group, or both."""
        if producer is not None and (members := self.producers.get(producer)) is not None:
            members.pop(connection, None)
            if not members:
                del self.producers[producer]
        if consumer is not None and (group := self.consumers.get(consumer)) is not None:
            group.members.pop(connection, None)
            if not group.members:
                del self.consumers[consumer]

    def forget(self, connection: Connection) -> None:
        """Take a lost connection out of all groups."""
        for name in [name for name, members in self.producers.items() if connection in members]:
            self.remove(connection, producer=name, consumer=None)
        for name in [name for name, group in self.consumers.items() if connection in group.members]:
            self.remove(connection, producer=None, consumer=name)
