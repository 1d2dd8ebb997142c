"""What the handlers of one broker see and change: its state, without its sockets, tasks and name servers.

Source: `BrokerController.java` (5.3.3), of which this is the part that requests are about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from broker_sim.requests.client_table import ClientTable
from broker_sim.requests.send_form import SendForm
from broker_sim.store.store import Store
from broker_sim.store.topics import TopicTable

if TYPE_CHECKING:
    from broker_sim.config import BrokerConfig
    from rocketmq_aio.wire.ids import UniqueIds

__all__ = ["BrokerState"]


class BrokerState:
    """The state of one broker.

    Args:
        config: what the broker is and does.
        topics: its topics.
        rng: its dice, a `random.Random`.
        unique_ids: for messages that have none.
        announce: tells the name servers of a topic that was created or changed.

    Attributes:
        store: its messages.
        clients: who is connected.
        sending: what is constant in its dealings with sends; there from the first start on.
    """

    sending: SendForm

    def __init__(
        self,
        *,
        config: BrokerConfig,
        topics: TopicTable,
        rng: Any,
        unique_ids: UniqueIds,
        announce: Callable[[str], None],
    ) -> None:
        self.config = config
        self.topics = topics
        self.rng = rng
        self.unique_ids = unique_ids
        self.announce = announce
        self.store = Store()
        self.clients = ClientTable()
