"""The command `broker-sim`: a simulated cluster for clients of any language, for as long as it is wanted.

Source: none in Java.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from broker_sim.cluster import Cluster
from broker_sim.config import DEFAULT_QUEUES, BrokerConfig
from broker_sim.rules_watch import RulesFile
from rocketmq_aio.errors import ConfigError, StateError
from rocketmq_aio.wire.bodies import encode_json

try:
    import click
except ModuleNotFoundError as error:
    raise SystemExit("broker-sim needs packages that are not installed: pip install 'rocketmq-aio[cli]'") from error

__all__ = ["main"]


def _parse_topics(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    """NAME or NAME:QUEUES, each."""
    topics: dict[str, int] = {}
    for value in values:
        name, colon, queues = value.partition(":")
        if colon and not (queues.isascii() and queues.isdigit()):
            raise click.BadParameter(f"{value!r} is not NAME:QUEUES, such as orders:8.")
        topics[name] = int(queues) if colon else DEFAULT_QUEUES
    return topics


def _new_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop where it is installed."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rocketmq-aio", prog_name="broker-sim")
def main() -> None:
    """A simulated RocketMQ cluster: name servers and brokers that speak the remoting protocol of Apache RocketMQ.

    It is for tests. Nothing is written to disk: what was sent is gone when it ends.
    """


@main.command()
@click.option("--brokers", default=1, show_default=True, type=click.IntRange(0, 1000),
              help="Brokers. They are called broker-a, broker-b, …")
@click.option("--name-servers", default=1, show_default=True, type=click.IntRange(0, 1000), help="Name servers.")
@click.option("--port", default=9876, show_default=True, type=click.IntRange(0, 65535),
              help="Port of the first name server. Further name servers and then the brokers take the ports that "
                   "follow. 0: free ports.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--advertise", metavar="HOST", help="Host that clients are told, if they cannot use that of --host: what "
              "they reach a container by, for example.")
@click.option("--topic", "topics", multiple=True, metavar="NAME[:QUEUES]", callback=_parse_topics,
              help="A topic to create, with so many queues on each broker (4 if left out). May be repeated.")
@click.option("--namesrv", "elsewhere", multiple=True, metavar="HOST:PORT",
              help="A name server, simulated or real, with which the brokers register too. May be repeated; "
                   "--name-servers 0 leaves the simulated ones out. A real one must not have brokers called broker-a, "
                   "…: they would lose their places, of whatever --cluster they are.")
@click.option("--cluster", "cluster_name", default="DefaultCluster", show_default=True, metavar="NAME",
              help="The cluster for which the brokers register.")
@click.option("--auto-create-topics/--no-auto-create-topics", default=True, show_default=True,
              help="Whether a send to an unknown topic creates it.")
@click.option("--rules", "rules_path", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
              help="Faults on purpose, in TOML. The file is read again when it changes.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line.")
@click.option("--verbose", is_flag=True, help="Log what happens to standard error.")
def serve(
    brokers: int, name_servers: int, port: int, host: str, advertise: str | None, topics: dict[str, int],
    elsewhere: tuple[str, ...], cluster_name: str, auto_create_topics: bool, rules_path: str | None, as_json: bool,
    verbose: bool,
) -> None:  # fmt: skip
    """Run name servers and brokers until Ctrl-C or SIGTERM.

    The first line says which address clients are to be given:

    \b
        $ broker-sim serve --port 0 --topic orders:8
        Name server: 127.0.0.1:40817

    With --json it is {"event":"ready","namesrv":"127.0.0.1:40817", …}; the last line is {"event":"stopped"}.
    It comes when all listen, and the brokers are registered; a name server of --namesrv that is silent is waited for
    three seconds, and then in the background.

    A file of --rules has one table for each fault, for example:

    \b
        [[inject]]
        requests = "SEND"
        verdict = "Reply"
        code = "SYSTEM_BUSY"
        times = 2

    The exit code is 0 after a signal, 1 if it cannot listen, 2 if an option or the file of rules is wrong.
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(message)s")
    if not name_servers and not brokers:
        raise click.UsageError("--brokers 0 and --name-servers 0 leave nothing to serve.")
    if not name_servers and not elsewhere:
        raise click.UsageError("--name-servers 0 needs --namesrv: brokers must register somewhere.")
    try:
        config = BrokerConfig(
            namesrv=elsewhere, cluster_name=cluster_name, auto_create_topics=auto_create_topics
        )
        cluster = Cluster(
            brokers=[config] * brokers, name_servers=name_servers, topics=topics,
            port=port, host=host, advertise=advertise,
        )  # fmt: skip
        printer = _Printer(as_json)
        rules = None if rules_path is None else RulesFile(cluster, rules_path, printer)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(_serve(cluster, printer, rules))
    except ConfigError as error:  # the rules name a broker that does not exist
        raise click.UsageError(str(error)) from error
    except StateError as error:
        raise click.ClickException(str(error)) from error


async def _serve(cluster: Cluster, printer: _Printer, rules: RulesFile | None) -> None:
    """Serve until a signal comes, which may be before all has started."""
    loop = asyncio.get_running_loop()
    serving = loop.create_task(_serve_for_ever(cluster, printer, rules))
    signals: list[int] = []

    def stop(number: int, _frame: object) -> None:
        signals.append(number)
        if not loop.is_closed():
            loop.call_soon_threadsafe(serving.cancel)

    # Not loop.add_signal_handler, which does not exist everywhere.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        await serving
    except asyncio.CancelledError:
        if not signals:
            raise
    printer.stopped()


async def _serve_for_ever(cluster: Cluster, printer: _Printer, rules: RulesFile | None) -> None:
    async with cluster:
        count = 0 if rules is None else rules.install()
        printer.ready(cluster)
        if rules is None:
            await asyncio.get_running_loop().create_future()
        else:
            printer.rules(count)
            await rules.watch()


class _Printer:
    """Says what happens, to people or to programs. Each line is flushed: a pipe may wait for it."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def ready(self, cluster: Cluster) -> None:
        """The cluster serves."""
        brokers = cluster.broker_addresses()
        if self._as_json:
            self._event(event="ready", namesrv=cluster.namesrv, brokers=brokers)
            return
        self._line(f"Name server{'s' if ';' in cluster.namesrv else ''}: {cluster.namesrv}")
        for name, address in brokers.items():
            self._line(f"{name}: {address}")
        self._line("Ctrl-C ends it.")

    def rules(self, count: int) -> None:
        """So many injections of the rules file hold from now on."""
        if self._as_json:
            self._event(event="rules", injections=count)
        else:
            self._line(f"Rules: {count} injection{'' if count == 1 else 's'}")

    def rules_failed(self, error: str) -> None:
        """The rules file has changed and cannot be used: what held goes on."""
        if self._as_json:
            self._event(event="rules_failed", error=error.encode(errors="backslashreplace").decode())
            return
        try:
            click.echo(f"The rules stay as they were. {error}", err=True)
        except BrokenPipeError:  # nobody reads what goes wrong
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    def stopped(self) -> None:
        """The cluster has ended."""
        if self._as_json:
            self._event(event="stopped")

    def _event(self, **members: object) -> None:
        self._line(encode_json(members).decode())

    @staticmethod
    def _line(text: str) -> None:
        try:
            click.echo(text)
            sys.stdout.flush()
        except BrokenPipeError:  # nobody reads any more; what is buffered is not to fail again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
