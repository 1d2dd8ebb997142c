"""The laws of the source tree, as functions from a `Project` to the list of its violations.

Each rule reads syntax trees and knows nothing of what the code does when it runs. A violation is one line: where, what,
and what to do instead. The tables in capitals are the laws themselves; an exception to a law stands beside it, by name,
with its reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGES = ("rocketmq_aio", "broker_sim")
SCRIPTS = ("tests", "benchmarks", "examples")

FLOOR_0 = frozenset({"codes", "errors", "message", "properties", "config", "environment"})
FLOOR_CLIENT, FLOOR_DOOR = 3, 4
"""What is not in FLOOR_0, `wire` (1) or `net` (2) is the client; the package itself is the door."""

SEES_CLIENT = ("broker_sim/simulation.py", "broker_sim/plugin.py", "broker_sim/cli.py")

LATE_IMPORTS = {
    "rocketmq_aio/__init__.py": "exports lazily",
    "broker_sim/__init__.py": "exports lazily",
    "broker_sim/cli.py": "click and rich are an extra",
}

PURE = (
    *(f"rocketmq_aio/{name}.py" for name in sorted(FLOOR_0 - {"environment"})),
    *(f"rocketmq_aio/{name}.py" for name in ("routes", "faults", "plan")),
    "rocketmq_aio/wire/*.py",
    *(f"broker_sim/{name}.py" for name in ("verdicts", "inject", "rules_file", "history", "checkers")),
    *(f"broker_sim/{name}.py" for name in ("store/*", "worlds/links")),
    "broker_sim/requests/*.py",
)
IMPURE_LIBRARIES = frozenset(
    {
        *("anyio", "asyncio", "concurrent", "multiprocessing", "subprocess", "threading", "uvloop"),
        *("os", "platform", "select", "selectors", "signal", "socket", "ssl", "tempfile"),
        *("logging", "random", "sched", "secrets", "time", "uuid"),
    }
)
PURE_EXCEPTIONS = {("rocketmq_aio/config.py", "os"): "from_env reads os.environ"}

LINES_MAX, FUNCTION_LINES_MAX, COLUMNS_MAX = 500, 70, 120

WORLDS = ("rocketmq_aio/environment.py", "broker_sim/worlds/*.py")
COMMANDS = ("*/cli.py", "*/__main__.py")
BROAD_EXCEPT = (
    "rocketmq_aio/lifecycle.py",  # outlives or reports whatever a background task does
    "rocketmq_aio/observe.py",  # calls the user's hooks
    "rocketmq_aio/net/pool.py",  # the user's address_map may raise anything
    "broker_sim/inject.py",  # calls the user's functions, which may raise anything
    "broker_sim/session.py",  # a bug in a handler is an answer, not a silent connection
    *COMMANDS,
)


@dataclass(frozen=True)
class Ban:
    """A pattern for whole dotted names, the files that may use them, and what the others do instead."""

    names: str
    instead: str
    allowed: tuple[str, ...] = ()


BANS = (
    Ban(r"time\..+|datetime\.(datetime|date)\.(now|utcnow|today)", "take the time from Environment.clock", WORLDS[:1]),
    Ban(
        r"random\.(?!Random\b).+|secrets\..+|os\.urandom|uuid\.uuid\d", "take dice from Environment.entropy", WORLDS[:1]
    ),
    Ban(
        r"socket\.(socket|create_\w+|get\w*(host|addr)\w*)|asyncio\.(open_connection|start_server)"
        r"|.*\.(create_connection|create_server|create_datagram_endpoint|getaddrinfo)",
        "connect and listen through Environment.network",
        WORLDS,
    ),
    Ban(r"(.*\.)?_?loop\.time", "measure with Environment.clock.monotonic, arm with call_later", WORLDS),
    Ban(
        r"asyncio\.(gather|wait_for|as_completed|TaskGroup)|anyio\.create_task_group",
        "background tasks belong to Service, deadlines to the pending table",
        COMMANDS,
    ),
    Ban(r"asyncio\.get_event_loop", "use asyncio.get_running_loop"),
    Ban(r"json(\..+)?", "use msgspec.json with a typed codec"),
    Ban(r"print", "log, or return the text", COMMANDS),
    Ban(r"NotImplementedError", "what does not work yet does not exist yet"),
)

# Written so that neither pattern finds itself.
UNFINISHED = re.compile(r"\bTODO\b|\bFIXME\b|\bXXX\b")
MACHINE_PATHS = re.compile(
    r"(?<![\w.])/(work|farm|root)/|/tmp/[b]ash|/home/\w+/|/Users/\w+/|\b(index[-]url|find[-]links)\b"
    r"|https?://[^\s/]*(mirror|artifactory|nexus|devpi|pypi\.org|pythonhosted|repo1?\.maven)"
)


@dataclass(frozen=True)
class Import:
    """One imported module; `kind` is top, typing (TYPE_CHECKING), guarded (a module-level try or if) or late."""

    line: int
    module: str
    kind: str


@dataclass(frozen=True)
class Source:
    """One Python file; `path` is relative to the root and has forward slashes."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def package(self) -> str:
        """The top-level directory."""
        return self.path.partition("/")[0]

    def matches(self, patterns: Iterable[str]) -> bool:
        return any(fnmatch(self.path, pattern) for pattern in patterns)

    @cached_property
    def aliases(self) -> Mapping[str, str]:
        """Local name → what it stands for, for everything imported anywhere in the file."""
        names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    root = alias.name.partition(".")[0]
                    names[alias.asname or root] = alias.name if alias.asname else root
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.update((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
        return names

    def dotted(self, node: ast.expr) -> str:
        """`a.b.c` with `a` replaced by what it was imported as; the empty string for any other expression."""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            head = self.dotted(node.value)
            return f"{head or '?'}.{node.attr}"
        return ""


@dataclass(frozen=True)
class Project:
    """The Python files of a tree, packages and scripts."""

    sources: tuple[Source, ...]
    modules: Mapping[str, Source] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "modules", {source.module: source for source in self.sources})

    @classmethod
    def read(cls, root: Path) -> Project:
        """Everything below the directories of packages and scripts."""
        paths = sorted(path for top in (*PACKAGES, *SCRIPTS) for path in (root / top).rglob("*.py"))
        return cls(tuple(Source(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in paths))

    @property
    def library(self) -> Iterator[Source]:
        """The files of the two packages."""
        return (source for source in self.sources if source.package in PACKAGES)

    def imports(self, source: Source) -> Iterator[Import]:
        """Every import of a file. `from package import module` counts as an import of that module."""

        def visit(node: ast.AST, kind: str) -> Iterator[Import]:
            if isinstance(node, ast.Import):
                yield from (Import(node.lineno, alias.name, kind) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    outer = source.path.split("/")[: -node.level]
                    base = ".".join([*outer, base] if base else outer)
                for name in (f"{base}.{alias.name}" for alias in node.names):
                    yield Import(node.lineno, name if name in self.modules else base, kind)
            elif isinstance(node, ast.If) and kind == "top":
                typing = "TYPE_CHECKING" in ast.unparse(node.test)
                for branch, inner in ((node.body, "typing" if typing else "guarded"), (node.orelse, "guarded")):
                    for statement in branch:
                        yield from visit(statement, inner)
            else:
                inner = kind
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
                    inner = "late"
                elif isinstance(node, ast.Try | ast.With) and kind == "top":
                    inner = "guarded"
                for child in ast.iter_child_nodes(node):
                    yield from visit(child, inner)

        return visit(source.tree, "top")


def floor(module: str) -> int:
    """The floor of a module of `rocketmq_aio`."""
    parts = module.split(".")
    if len(parts) == 1:
        return FLOOR_DOOR
    return 0 if parts[1] in FLOOR_0 else {"wire": 1, "net": 2}.get(parts[1], FLOOR_CLIENT)


def floors(project: Project) -> Iterator[str]:
    """A module imports from its own floor or a lower one; the simulator sees floors 0 to 2; doors are for users."""
    for source in project.library:
        if source.module in PACKAGES:
            continue
        for found in project.imports(source):
            where, target = f"{source.path}:{found.line}", found.module.partition(".")[0]
            if source.package == "rocketmq_aio" and target == "broker_sim":
                yield f"{where}: the client imports the simulator. What both need belongs to floors 0 to 2"
            elif found.module in PACKAGES and not source.matches((*SEES_CLIENT, *COMMANDS)):
                yield f"{where}: imports through the door of {target}. Import the module that defines the name"
            elif target == "rocketmq_aio" and source.package == "broker_sim":
                if floor(found.module) >= FLOOR_CLIENT and not source.matches(SEES_CLIENT):
                    yield f"{where}: the simulator imports {found.module}, which is client. It sees floors 0 to 2"
            elif target == source.package == "rocketmq_aio" and floor(found.module) > floor(source.module):
                yield (
                    f"{where}: floor {floor(source.module)} imports {found.module} of floor {floor(found.module)}. "
                    "Move what is shared down, or pass it in"
                )


def circles(project: Project) -> Iterator[str]:
    """No module imports itself through others (imports for type checkers aside)."""
    graph = {
        source.module: {
            found.module
            for found in project.imports(source)
            if found.kind in ("top", "guarded") and found.module in project.modules and found.module != source.module
        }
        for source in project.library
    }
    while True:
        try:
            TopologicalSorter(graph).prepare()
            return
        except CycleError as error:
            circle = error.args[1]
            where = project.modules[circle[0]].path
            yield f"{where}:1: circle {' → '.join(circle)}. One of them has a part that belongs below"
            graph[circle[1]].discard(circle[0])


def late_imports(project: Project) -> Iterator[str]:
    """Imports stand at the top of the file, without conditions but TYPE_CHECKING."""
    for source in project.library:
        if source.path not in LATE_IMPORTS:
            for found in project.imports(source):
                if found.kind in ("late", "guarded"):
                    yield f"{source.path}:{found.line}: {found.kind} import of {found.module}. Move it to the top"


def purity(project: Project) -> Iterator[str]:
    """A pure file imports pure files and libraries without clock, dice, sockets or logs."""
    for source in project.library:
        if not source.matches(PURE):
            continue
        for found in project.imports(source):
            root = found.module.partition(".")[0]
            if found.kind == "typing" or (source.path, root) in PURE_EXCEPTIONS:
                continue
            target = project.modules.get(found.module) or Source(found.module.replace(".", "/") + ".py", "")
            if root in IMPURE_LIBRARIES or (root in PACKAGES and not target.matches(PURE)):
                yield (
                    f"{source.path}:{found.line}: a pure file imports {found.module}. "
                    "Take a value instead, or import it for types only"
                )


def sizes(project: Project) -> Iterator[str]:
    """Files, functions and lines have a longest size."""
    for source in project.sources:
        lines = source.text.splitlines()
        if len(lines) > LINES_MAX:
            yield f"{source.path}:1: {len(lines)} lines, {LINES_MAX} at most. Give its second concern a file"
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS_MAX:
                yield f"{source.path}:{number}: {len(line)} columns, {COLUMNS_MAX} at most. Break the line"
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.body[0].lineno + 1  # the signature is free,
                if ast.get_docstring(node) is not None:  # and so is the docstring: nobody should save on either
                    length -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
                if length > FUNCTION_LINES_MAX:
                    where = f"{source.path}:{node.lineno}"
                    yield f"{where}: {node.name} has {length} lines, {FUNCTION_LINES_MAX} at most. Split it"


def module_docstrings(project: Project) -> Iterator[str]:
    """Every module says what it is for."""
    for source in project.sources:
        if source.tree.body and not ast.get_docstring(source.tree):
            yield f"{source.path}:1: no module docstring. Say what it does, and what it refuses to know"


def banned_names(project: Project) -> Iterator[str]:
    """The outside world has one door (Environment), background work one owner (Service), JSON one codec."""
    for source in project.library:
        bans = [ban for ban in BANS if not source.matches(ban.allowed)]
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
                names = [source.dotted(node)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                for ban in bans:
                    if re.fullmatch(ban.names, name):
                        yield f"{source.path}:{node.lineno}: {name}. Instead: {ban.instead}"


def broad_excepts(project: Project) -> Iterator[str]:
    """Errors are caught by name. Catching everything to clean up is fine where the handler ends in a bare raise."""
    for source in project.library:
        if source.matches(BROAD_EXCEPT):
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ExceptHandler):
                last, kind = node.body[-1], node.type or ast.Name("BaseException")
                reraises = isinstance(last, ast.Raise) and last.exc is None
                caught = [] if reraises else kind.elts if isinstance(kind, ast.Tuple) else [kind]
            elif isinstance(node, ast.Call) and source.dotted(node.func) == "contextlib.suppress":
                caught = node.args
            else:
                continue
            for kind in caught:
                if (name := source.dotted(kind)) in ("Exception", "BaseException"):
                    yield f"{source.path}:{node.lineno}: swallows every {name}. Name the errors that can happen"


def unfinished(project: Project) -> Iterator[str]:
    """No marks of work left for later."""
    for source in project.sources:
        for number, line in enumerate(source.text.splitlines(), 1):
            if match := UNFINISHED.search(line):
                yield f"{source.path}:{number}: {match[0]}. Do it, or write an issue"


def machine_paths(files: Iterable[tuple[str, str]]) -> Iterator[str]:
    """No text, of (path, text), names a path of the machine it was written on, or where that gets its packages."""
    for path, text in files:
        for number, line in enumerate(text.splitlines(), 1):
            if match := MACHINE_PATHS.search(line):
                yield f"{path}:{number}: {match[0]!r} is of one machine. Make it relative or a parameter"


def undocumented(project: Project, exports: Iterable[str]) -> Iterator[str]:
    """Exported names and public methods of exported classes have docstrings; a constant may have a comment."""
    wanted, found = set(exports), set()
    for source in project.library:
        lines = source.text.splitlines()
        body = source.tree.body
        for index, node in enumerate(body):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if node.name in wanted:
                    found.add(node.name)
                    yield from _undocumented_callable(source, node)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = {target.id for target in targets if isinstance(target, ast.Name)} & wanted
                found |= names
                following = body[index + 1] if index + 1 < len(body) else None
                below = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                above = node.lineno > 1 and lines[node.lineno - 2].lstrip().startswith("#")
                if names and not (below or above or "  # " in lines[(node.end_lineno or node.lineno) - 1]):
                    where = f"{source.path}:{node.lineno}"
                    yield f"{where}: {', '.join(sorted(names))} is exported without a word. Add a docstring below"
    for name in sorted(wanted - found - {"__version__"}):
        yield f"{name}: exported, but no module defines it. Export what exists"


def _undocumented_callable(
    source: Source, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
) -> Iterator[str]:
    if not ast.get_docstring(node):
        yield f"{source.path}:{node.lineno}: {node.name} is exported without a docstring. Say what it is"
    if isinstance(node, ast.ClassDef):
        for member in node.body:
            if not isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) or member.name.startswith("_"):
                continue
            decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in member.decorator_list}
            if not decorators & {"overload", "setter"} and not ast.get_docstring(member):
                where = f"{source.path}:{member.lineno}"
                yield f"{where}: {node.name}.{member.name} is public without a docstring. Document it"
