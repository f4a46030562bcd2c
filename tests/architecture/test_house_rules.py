"""What no linter says: what the pure rooms may import, where walls stand, how logs are written."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "daemon" / "stackward"

PURE_ROOMS = ("stackward.model", "stackward.core", "stackward.catalog", "stackward.ports")

# A list of what is forbidden forgets; this is all that is allowed.
PURE_IMPORTS = {
    *("collections", "dataclasses", "datetime", "enum", "functools", "ipaddress", "itertools"),
    *("json", "math", "operator", "re", "shlex", "types", "typing"),
}

# Containment walls stand where outside bytes are read or the world is changed, and nowhere else.
WALLS = {
    "act/executor.py": 1,  # one step
    "act/recovery.py": 1,  # one open intent, looked at after a restart
    "catalog/sieve.py": 3,  # one log record: recognised whole, recognised in a storm, told
    "cli/__init__.py": 1,  # the last one before the shell
    "journal/worker.py": 1,  # carried over from the thread to whoever asked
    "observe/management_logs.py": 2,  # one log record, one log
    "observe/prober.py": 1,  # one VM's answer
    "transports/cloudstack_replies.py": 1,  # one row of a listing
    "transports/database_rows.py": 1,  # one row of a listing
    "transports/local_logs.py": 1,  # one look at a log: what broke it is told to who follows
    "transports/ssh.py": 2,  # whatever the library raises while a way or a channel is opened
}

LOG_LEVELS = frozenset({"debug", "info", "warning", "error", "exception"})
TODO = re.compile(r"\bTODO\b(?!\(#\d+\): \S)")
SUPPRESSION = re.compile(r"#\s*(noqa(?!:)|noqa: [A-Z0-9, ]+\s*$|type: ignore(?!\[))")


@cache
def _modules() -> tuple[tuple[str, str, ast.Module], ...]:
    """Every module: its path below the source root, its text, its tree."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append((path.relative_to(SOURCE).as_posix(), text, ast.parse(text)))
    return tuple(found)


def _is_below(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_a_pure_room_imports_only_what_is_allowed(room: str):
    graph = grimp.build_graph("stackward", include_external_packages=True, cache_dir=None)
    outside = {
        f"{module} imports {imported}"
        for module in graph.modules
        if _is_below(module, room)
        for imported in graph.find_modules_directly_imported_by(module)
        if not _is_below(imported, "stackward") and imported.split(".")[0] not in PURE_IMPORTS
    }
    assert not outside


def test_walls_stand_where_they_are_named_and_nowhere_else():
    walls: Counter[str] = Counter()
    for path, _, tree in _modules():
        walls[path] += sum(_is_wall(node) for node in ast.walk(tree))
    assert {path: count for path, count in walls.items() if count} == WALLS


def _is_wall(node: ast.AST) -> bool:
    """True for a handler of everything that does not pass it on after some clean-up."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    names = {"BaseException"}
    if node.type is not None:
        names = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
    last = node.body[-1]
    passes_on = isinstance(last, ast.Raise) and last.exc is None
    return bool(names & {"Exception", "BaseException"}) and not passes_on


def test_log_events_are_constant_lowercase_phrases():
    odd = [
        f"{path}:{call.lineno}: {ast.unparse(call.args[0])}"
        for path, _, tree in _modules()
        for call in _log_calls(tree)
        if not _is_phrase(call.args[0])
    ]
    assert not odd


def _log_calls(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            owner = ast.unparse(node.func.value).split(".")[-1].lstrip("_")
            if node.func.attr in LOG_LEVELS and owner in ("log", "logger"):
                yield node


def _is_phrase(event: ast.expr) -> bool:
    if not isinstance(event, ast.Constant) or not isinstance(event.value, str):
        return False
    return re.fullmatch(r"[a-z0-9][a-z0-9 /_-]*", event.value) is not None


def test_every_module_opens_with_a_docstring():
    assert not [path for path, text, tree in _modules() if text and not ast.get_docstring(tree)]


def test_a_todo_names_its_issue():
    odd = [
        f"{path}:{number}"
        for path, text, _ in _modules()
        for number, line in enumerate(text.splitlines(), start=1)
        if TODO.search(line)
    ]
    assert not odd


def test_a_suppression_names_its_rule_and_says_why():
    odd = []
    for path, text, _ in _modules():
        above = ""
        for line in text.splitlines():
            # A reason may stand above, and a run of suppressed lines shares one.
            is_told = above.lstrip().startswith("#") or "# noqa: " in above
            if SUPPRESSION.search(line) and not is_told:
                odd.append(f"{path}: {line.strip()}")
            above = line
    assert not odd


NAMELESS = {"utils", "util", "helpers", "common", "misc", "base", "manager", "handler", "service"}


def test_there_are_no_rooms_without_a_name():
    rooms = [Path(path).with_suffix("").parts for path, _, _ in _modules()]
    assert not [parts for parts in rooms if NAMELESS & set(parts)]


@pytest.mark.parametrize(
    ("planted", "is_noticed"),
    [
        ("try:\n    pass\nexcept Exception:\n    pass", True),
        ("try:\n    pass\nexcept:\n    pass", True),
        ("try:\n    pass\nexcept (ValueError, Exception):\n    pass", True),
        ("try:\n    pass\nexcept ValueError:\n    pass", False),
        ("try:\n    pass\nexcept BaseException:\n    x = 1\n    raise", False),
    ],
)
def test_a_planted_wall_is_noticed(planted: str, is_noticed: bool):
    assert any(_is_wall(node) for node in ast.walk(ast.parse(planted))) is is_noticed


@pytest.mark.parametrize(
    ("planted", "is_noticed"),
    [
        ('self._log.info(f"vm {name}")', True),
        ('log.warning("Step held", vm=name)', True),
        ("log.error(text)", True),
        ('log.info("step held", vm=name)', False),
    ],
)
def test_a_planted_log_event_is_noticed(planted: str, is_noticed: bool):
    calls = list(_log_calls(ast.parse(planted)))
    assert any(not _is_phrase(call.args[0]) for call in calls) is is_noticed


@pytest.mark.parametrize(
    ("line", "is_noticed"),
    [
        ("# TODO: later", True),
        ("# TODO(#12): say why", False),
        ("x = 1  # TODO(me): x", True),
        ("# a todo list", False),
    ],
)
def test_a_planted_todo_is_noticed(line: str, is_noticed: bool):
    assert bool(TODO.search(line)) is is_noticed
