"""A simulated RocketMQ cluster for tests: name servers and brokers that speak the real protocol.

    with Cluster(topics={"T": 4}) as cluster:            # a thread of its own; any client, any language
        client = connect_somehow(cluster.namesrv)
        ...
        assert len(cluster.messages("T")) == 1

Names are loaded when they are first used: importing this package imports nothing else.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker_sim.cluster import Cluster
    from broker_sim.config import BrokerConfig
    from broker_sim.handles import Injection
    from broker_sim.history import Exchange
    from broker_sim.simulation import simulate
    from broker_sim.verdicts import Corrupt, Delay, Disconnect, Drop, Duplicate, Pass, Reply, Status, Verdict
    from broker_sim.worlds.environments import loopback, memory
    from broker_sim.worlds.hang import DeadlockError

__all__ = [
    "BrokerConfig", "Cluster", "Corrupt", "DeadlockError", "Delay", "Disconnect", "Drop", "Duplicate", "Exchange",
    "Injection", "Pass", "Reply", "Status", "Verdict", "loopback", "memory", "simulate",
]

_HOMES = {
    "BrokerConfig": "config",
    "Cluster": "cluster",
    "DeadlockError": "worlds.hang",
    "Exchange": "history",
    "Injection": "handles",
    **dict.fromkeys(
        ("Corrupt", "Delay", "Disconnect", "Drop", "Duplicate", "Pass", "Reply", "Status", "Verdict"), "verdicts"
    ),
    "loopback": "worlds.environments",
    "memory": "worlds.environments",
    "simulate": "simulation",
}


class _Package(ModuleType):
    """Whoever imports the file `simulate` makes Python put it here, in the place of the decorator of that name."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "simulate" and isinstance(value, ModuleType):
            value = value.simulate
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
