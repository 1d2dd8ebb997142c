"""What a simulated broker can be told, and checks of what a cluster is told. A config that exists is valid.

Source: `BrokerConfig.java`, `MessageStoreConfig.java` (5.3.3).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence

import msgspec

from broker_sim.requests.names import is_system_topic, topic_name_problem
from rocketmq_aio.codes import SerializeType
from rocketmq_aio.errors import ConfigError
from rocketmq_aio.net.addresses import parse_address

__all__ = [
    "DEFAULT_QUEUES", "SERVERS_MAX", "BrokerConfig", "broker_configs", "check_brokers", "check_codes", "check_count",
    "check_host", "check_port", "check_queue", "check_topic", "topic_queues",
]

MiB = 1024 * 1024
NAME_SERVER_PORT = 9876
SERVERS_MAX = 1_000
QUEUES_MAX = 65_536
DEFAULT_QUEUES = 4


def check_count(owner: str, name: str, value: object, low: int, high: int) -> None:
    """Raise a `ConfigError` unless `value` is a whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{owner}: {name} must be a whole number from {low:,} to {high:,}, not {value!r}.")


def check_port(owner: str, value: object) -> None:
    """Raise a `ConfigError` unless `value` is a port, or 0 for a free one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65_535:
        raise ConfigError(f"{owner}: port must be 0, for a free one, or a port from 1 to 65535, not {value!r}.")


def check_host(name: str, value: object) -> None:
    """Raise a `ConfigError` unless `value` can be the cluster's `host` or `advertise`."""
    words = f"Cluster: {name} must be a host name or an address without port"
    if not isinstance(value, str) or not value.isprintable() or any(character in value for character in " /[]"):
        raise ConfigError(f"{words}, not {value!r}.")
    if not value:
        raise ConfigError(f"{words}, not empty.", hint="To listen on all addresses give '0.0.0.0' or '::'.")
    if ":" in value:
        try:
            ipaddress.IPv6Address(value)
        except ValueError as error:
            raise ConfigError(f"{words}, not {value!r}.", hint="With a colon it would be an IPv6 address.") from error


def check_queue(owner: str, topic: object, queue: object) -> None:
    """Raise a `ConfigError` unless these can be the name of a topic, and the number of a queue or None for all."""
    if not isinstance(topic, str):
        raise ConfigError(f"{owner}: topic must be a topic's name, a str, not {topic!r}.")
    if queue is not None and (isinstance(queue, bool) or not isinstance(queue, int) or queue < 0):
        raise ConfigError(f"{owner}: queue must be the number of a queue, from 0, not {queue!r}.")


def check_codes(codes: Sequence[object]) -> None:
    """Raise a `ConfigError` unless all are request codes."""
    for code in codes:
        if isinstance(code, bool) or not isinstance(code, int):
            hint = "Unpack a sequence of codes: requests(*SEND)." if isinstance(code, Collection) else ""
            raise ConfigError(
                f"Cluster.requests: codes are numbers, such as RequestCode.HEART_BEAT, not {code!r}.", hint=hint
            )


def check_brokers(names: object) -> None:
    """Raise a `ConfigError` unless it is a sequence of brokers' names. Whether there are such brokers is not known."""
    if not isinstance(names, Sequence) or isinstance(names, str | bytes):
        raise ConfigError(
            f"Cluster.create_topic: brokers must be a sequence of names, or None for all, not {names!r}.",
            hint="For example brokers=['broker-a'].",
        )


class BrokerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What one simulated broker is and does.

    Attributes:
        name: its name; empty: broker-a, broker-b, … by its place in the cluster (Java: `brokerName`).
        cluster_name: the cluster that it registers for (Java: `brokerClusterName`).
        port: where it listens; 0: a free port, or one by its place if the cluster's port is given (Java: `listenPort`).
        namesrv: addresses of further name servers that it registers with, simulated or real ones, as `host:port`, in
            one text with semicolons between them or as a sequence (Java: `namesrvAddr`).
        region_id: goes into messages and answers as MSG_REGION (Java: `regionId`).
        max_message_bytes: largest body that it takes, 1 byte to 15 MiB (Java: `maxMessageSize`, 4 MiB).
        serialize_type: form of its answers' headers: `SerializeType.JSON` or `SerializeType.ROCKETMQ`.
        auto_create_topics: whether a send to an unknown topic creates it (Java: `autoCreateTopicEnable`). Off, there is
            no topic TBW102, by whose route clients find a broker for a topic that does not exist yet.
    """

    name: str = ""
    cluster_name: str = "DefaultCluster"
    port: int = 0
    namesrv: str | Sequence[str] = ()
    region_id: str = "DefaultRegion"
    max_message_bytes: int = 4 * MiB
    serialize_type: SerializeType = SerializeType.JSON
    auto_create_topics: bool = True

    def __post_init__(self) -> None:
        """Check everything, and split the addresses."""
        me = "BrokerConfig"
        for field in ("name", "cluster_name", "region_id"):
            value = getattr(self, field)
            # These become topics, properties and parts of addresses: a topic's characters suit all of them.
            problem = topic_name_problem(value) if isinstance(value, str) else "It is not a str."
            if problem is not None and (field, value) != ("name", ""):
                raise ConfigError(f"{me}: {field} is {value!r}. It must be a name as topics have: {problem}")
        check_port(me, self.port)
        check_count(me, "max_message_bytes", self.max_message_bytes, 1, 15 * MiB)
        if not isinstance(self.serialize_type, SerializeType):
            raise ConfigError(
                f"{me}: serialize_type must be SerializeType.JSON or SerializeType.ROCKETMQ, "
                f"not {self.serialize_type!r}."
            )
        if not isinstance(self.auto_create_topics, bool):
            raise ConfigError(f"{me}: auto_create_topics must be True or False, not {self.auto_create_topics!r}.")
        addresses = self.namesrv.split(";") if isinstance(self.namesrv, str) else self.namesrv
        if not isinstance(addresses, Sequence) or not all(isinstance(address, str) for address in addresses):
            raise ConfigError(f"{me}: namesrv must be a str or a sequence of str, not {self.namesrv!r}.")
        parsed = [parse_address(address, NAME_SERVER_PORT) for address in addresses if address.strip()]
        texts = tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in parsed)
        msgspec.structs.force_setattr(self, "namesrv", texts)


def broker_configs(brokers: object) -> list[BrokerConfig]:
    """The configs of a cluster's brokers, each with its name, from their number or from configs.

    Raises:
        ConfigError: it is neither, or two have the same name.
    """
    if not isinstance(brokers, Sequence) or isinstance(brokers, str | bytes):
        if isinstance(brokers, bool) or not isinstance(brokers, int) or not 0 <= brokers <= SERVERS_MAX:
            raise ConfigError(
                f"Cluster: brokers must be a number from 0 to {SERVERS_MAX:,} or a sequence of BrokerConfig, "
                f"not {brokers!r}."
            )
        brokers = [BrokerConfig()] * brokers
    configs: list[BrokerConfig] = []
    names: dict[str, None] = {}
    for index, config in enumerate(brokers):
        if not isinstance(config, BrokerConfig):
            raise ConfigError(f"Cluster: each of brokers must be a BrokerConfig, not {config!r}.")
        if not config.name:
            config = msgspec.structs.replace(config, name=f"broker-{_letters(index)}")
        if config.name in names:
            raise ConfigError(f"Cluster: two brokers are called {config.name}.", hint="Give each a name of its own.")
        names[config.name] = None
        configs.append(config)
    return configs


def _letters(index: int) -> str:
    """a, b, … z, aa, ab, …"""
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return letters


def topic_queues(topics: object) -> dict[str, int]:
    """Topic → number of queues, from a mapping or from names.

    Raises:
        ConfigError: it is neither, or one of them cannot be a topic.
    """
    if isinstance(topics, Mapping):
        queues = dict(topics)
    elif isinstance(topics, Sequence) and not isinstance(topics, str | bytes):
        queues = dict.fromkeys(topics, DEFAULT_QUEUES)
    else:
        raise ConfigError(
            f"Cluster: topics must be a mapping (name → queues) or a sequence of names, not {topics!r}.",
            hint="For example topics={'T': 4}, or topics=['T'].",
        )
    for name, number in queues.items():
        check_topic(name, number)
    return queues


def check_topic(name: object, queues: object) -> None:
    """Raise a `ConfigError` unless a cluster can have a topic of this name with so many queues."""
    problem = topic_name_problem(name) if isinstance(name, str) else "It is not a str."
    if problem is None and is_system_topic(str(name)):
        problem = "It is a topic of the broker's own."
    if problem is not None:
        raise ConfigError(f"Cluster: {name!r} cannot be a topic: {problem}")
    check_count("Cluster", f"the queues of {name}", queues, 0, QUEUES_MAX)
