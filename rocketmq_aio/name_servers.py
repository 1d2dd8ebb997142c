"""Asking name servers, and what is kept of their answers.

`NameServers` asks one server after the other within one deadline, and stays with the one that answered last; a silent
server costs at most its share of the time. `RouteTable` caches routes and lets all who miss the same topic share one
request. What came back is compared by value and replaced by one assignment.

This file knows topics and routes, and nothing of messages.

Source: `MQClientInstance.updateTopicRouteInfoFromNameServer`, `NettyRemotingClient.getAndCreateNameserverChannel`
(5.3.3).
Differs: Java 5.3 tries one name server for each call, so that one dead server fails a send; Java holds one lock for all
topics during the request.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence

from rocketmq_aio.codes import RequestCode, ResponseCode, code_name
from rocketmq_aio.environment import Environment
from rocketmq_aio.errors import (
    ConfigError,
    LocalProtocolError,
    NameServersUnavailableError,
    NoRouteError,
    RocketMQError,
    RouteError,
    StateError,
    quote_remote,
)
from rocketmq_aio.net.addresses import NAME_SERVER_PORT, join_address, parse_address
from rocketmq_aio.net.pool import Pool
from rocketmq_aio.net.shared import Spawn, wait_shared
from rocketmq_aio.routes import TopicRoute, topic_route
from rocketmq_aio.wire.bodies import TopicRouteData, decode_json
from rocketmq_aio.wire.frame import RemotingCommand
from rocketmq_aio.wire.headers import GetRouteInfoRequestHeader, encode_fields
from rocketmq_aio.wire.incoming import Reply

__all__ = ["NameServers", "RouteTable", "parse_namesrv"]

logger = logging.getLogger("rocketmq_aio")

#: A topic that most clusters have, because brokers create missing topics after its example.
PING_TOPIC = "TBW102"
#: Seconds that one look-up may take (Java: `mqClientApiTimeout`, 3,000 ms). A little less than a send has by default,
#: because a look-up that failed says more than a deadline that passed.
LOOKUP_TIMEOUT = 2.8


def parse_namesrv(namesrv: str | Sequence[str] | None) -> tuple[str, ...]:
    """The name servers' addresses, each as `host:port`.

    Args:
        namesrv: addresses separated by semicolons, or a sequence of addresses, or None for the environment variable
            NAMESRV_ADDR.

    Raises:
        ConfigError: there is no address, or one of them is none.
    """
    given = os.environ.get("NAMESRV_ADDR", "") if namesrv is None else namesrv
    if isinstance(given, str):
        texts = [text for text in given.replace(",", ";").split(";") if text.strip()]
    elif isinstance(given, Sequence) and not isinstance(given, bytes | bytearray | memoryview):
        texts = list(given)
        for text in texts:
            if not isinstance(text, str):
                raise ConfigError(f"namesrv must be a str or a sequence of str; it has {text!r} in it.")
    else:
        raise ConfigError(f"namesrv must be a str or a sequence of str, not {given!r}.")
    if not texts:
        where = "namesrv is None and the environment variable NAMESRV_ADDR is not set" if namesrv is None else (
            f"namesrv is {namesrv!r}")
        raise ConfigError(f"No name server: {where}.", hint="Give namesrv='host:9876', or set NAMESRV_ADDR.")
    addresses: dict[str, None] = {}  # in order, each once
    for text in texts:
        addresses[join_address(*parse_address(text, NAME_SERVER_PORT))] = None
    return tuple(addresses)


class NameServers:
    """The name servers of one client.

    Args:
        addresses: `host:port` of each.
        pool: the client's connections.
        environment: clock and dice.
    """

    def __init__(self, addresses: Sequence[str], pool: Pool, environment: Environment) -> None:
        self.addresses = tuple(addresses)
        self._pool = pool
        self._monotonic = environment.clock.monotonic
        # Clients that start together must not all ask the same server.
        self._current = environment.entropy("name servers").randrange(len(self.addresses))

    async def route(self, topic: str, due: float) -> TopicRoute:
        """Ask for the route of `topic` until one server has it. Safe to cancel.

        Args:
            topic: the topic's name.
            due: the deadline, in seconds of the monotonic clock.

        Raises:
            NoRouteError: the name servers that answered know no route.
            NameServersUnavailableError: none gave a usable answer; `answers` has what came of each.
            StateError: nothing can be connected to from here, such as from virtual time to the real world.
        """
        answers: dict[str, str] = {}
        unknown: list[str] = []
        start, count = self._current, len(self.addresses)
        for step in range(count):
            index = (start + step) % count
            addr = self.addresses[index]
            now = self._monotonic()
            share = now + max(due - now, 0.0) / (count - step)
            try:
                reply = await self._ask(addr, topic, share)
                if reply.code == ResponseCode.SUCCESS:
                    route = topic_route(topic, decode_json(TopicRouteData, reply.body))
                    self._current = index
                    return route
            except StateError:
                raise
            except LocalProtocolError as error:
                answers[addr] = f"sent a route that cannot be read: {error}"
                continue
            except RocketMQError as error:
                answers[addr] = str(error.text)
                continue
            if reply.code == ResponseCode.TOPIC_NOT_EXIST:
                unknown.append(addr)  # another one may know more: brokers register with each server on its own
                continue
            name = code_name(ResponseCode, reply.code) or "code"
            answers[addr] = f"answered {name} ({reply.code}): {quote_remote(reply.remark or 'no remark')}"
        if unknown:
            raise NoRouteError(
                f"There is no route to topic {topic!r} at the name servers that answered: {', '.join(unknown)}.",
                topic=topic, hint="Create the topic, or check its name; brokers register new topics within 30 s.",
            )
        raise _unavailable(f"No name server gave a route to topic {topic!r}.", topic, answers)

    async def ping(self, due: float) -> None:
        """Wait until one name server answers, whatever it answers. Safe to cancel.

        Raises:
            NameServersUnavailableError: none did.
        """
        try:
            await self.route(PING_TOPIC, due)
        except NoRouteError:
            pass
        except NameServersUnavailableError as error:
            raise _unavailable("No name server answers.", "", error.answers) from error

    async def _ask(self, addr: str, topic: str, due: float) -> Reply:
        command = RemotingCommand(
            code=RequestCode.GET_ROUTEINFO_BY_TOPIC,
            ext_fields=encode_fields(GetRouteInfoRequestHeader(topic=topic, accept_standard_json_only=True)),
        )
        connection = self._pool.get(addr)
        if connection is None:
            try:
                async with asyncio.timeout(max(due - self._monotonic(), 0.0)):
                    connection = await self._pool.connect(addr, "name server")
            except TimeoutError:
                raise RouteError(f"name server at {addr}: no connection in time.", topic=topic) from None
        return await connection.call(command, due)


def _unavailable(what: str, topic: str, answers: Mapping[str, str]) -> NameServersUnavailableError:
    listing = "; ".join(f"{addr}: {words.rstrip('.')}" for addr, words in answers.items())
    hint = "Check namesrv= (or NAMESRV_ADDR) and that a name server listens there."
    return NameServersUnavailableError(f"{what} {listing}.", topic=topic, answers=answers, hint=hint)


class RouteTable:
    """Topic → route, with one request for all who miss it.

    Args:
        name_servers: whom to ask.
        spawn: runs a look-up as a background task.
        environment: the clock.
        on_change: told of each route that is new or has changed.
    """

    def __init__(
        self,
        name_servers: NameServers,
        spawn: Spawn[TopicRoute],
        environment: Environment,
        on_change: Callable[[TopicRoute], None],
    ) -> None:
        self.routes: dict[str, TopicRoute] = {}
        self._name_servers = name_servers
        self._spawn = spawn
        self._monotonic = environment.clock.monotonic
        self._on_change = on_change
        self._lookups: dict[str, asyncio.Task[TopicRoute]] = {}

    async def get(self, topic: str) -> TopicRoute:
        """The route of `topic`: cached, or from the name servers. Safe to cancel: others may share the request.

        Raises:
            NoRouteError, NameServersUnavailableError: as `NameServers.route`.
        """
        route = self.routes.get(topic)
        return route if route is not None else await self.refresh(topic)

    async def refresh(self, topic: str) -> TopicRoute:
        """The route of `topic` as the name servers know it now. Safe to cancel.

        Raises:
            NoRouteError, NameServersUnavailableError: as `NameServers.route`; a cached route stays as it is.
        """
        task = self._lookups.get(topic)
        if task is None:
            task = self._spawn(f"route of {topic}", self._look_up(topic))
            self._lookups[topic] = task
            task.add_done_callback(lambda _: self._lookups.pop(topic, None))
        return await wait_shared(task, f"the route of topic {topic!r}")

    async def _look_up(self, topic: str) -> TopicRoute:
        route = await self._name_servers.route(topic, self._monotonic() + LOOKUP_TIMEOUT)
        known = self.routes.get(topic)
        if route == known:
            return known
        self.routes[topic] = route
        logger.info("route of topic %s: %d writable queues at %s", topic, len(route.queues), dict(route.master_addrs))
        self._on_change(route)
        return route

    async def refresh_all(self) -> None:
        """Look all known topics up again, one after the other.

        Raises:
            NameServersUnavailableError: no name server answers; the other topics were not asked for.
            RouteError: the last failure, after all topics were tried. What was cached stays.
        """
        failure: RouteError | None = None
        for topic in list(self.routes):
            try:
                await self.refresh(topic)
            except NameServersUnavailableError:
                raise
            except RouteError as error:
                failure = error
        if failure is not None:
            raise failure
