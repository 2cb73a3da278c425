"""The house checks itself: imports run downward, rooms are small, and the docs name what there is."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from support import ROOT

from rdnscache import config, metrics

pytestmark = pytest.mark.pure

PACKAGE = ROOT / "rdnscache"
#: From the cellar up: a module may import from its own floor and those below.
FLOORS = (
    ("errors", "__init__", "build", "address", "outcomes", "departure", "clock", "process", "dns", "clients", "files"),
    ("handover", "lifeline", "keeper", "children"),
    ("sockets", "metrics", "stream", "embedded", "place", "printable"),
    ("values", "cache", "query_log", "logs"),
    ("forwards",),
    ("config",),
    ("store", "upstream"),
    ("status", "descriptors"),
    ("crew", "report"),
    ("flights",),
    ("resolver", "sweeper"),
    ("server",),
    ("supervisor",),
    ("node",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
#: The supervisor begins a worker by importing the node, in the child.
ALLOWED_UPWARD = {("supervisor", "node")}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rdnscache":
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "rdnscache" else [node.module]
            )
            found |= {room_of(name or "") for name in names}
    return {room if room in FLOOR else "__init__" for room in found}


def test_imports_run_downward() -> None:
    """No module imports from a floor above its own."""
    upward = set()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        upward |= {(room, other) for other in imported_rooms(path) if FLOOR[other] > FLOOR[room]}

    assert upward <= ALLOWED_UPWARD


def test_the_cellar_knows_no_socket_clock_redis_or_gevent() -> None:
    """dns/, clients/ and the cache are pure: time comes in as an argument."""
    banned = {"socket", "time", "redis", "gevent", "hiredis", "select"}
    for path in [*(PACKAGE / "dns").glob("*.py"), *(PACKAGE / "clients").glob("*.py"), PACKAGE / "cache.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            used = {name.split(".")[0] for name in names} & banned
            # text.py formats the moments inside RRSIG records with time.strftime; it never asks what time it is
            assert used <= ({"time"} if path.name == "text.py" else set()), path


def test_commands_print_in_one_place() -> None:
    """Nothing gets to a terminal but through cli/output.py, which escapes what would steer it."""
    for path in (PACKAGE / "cli").glob("*.py"):
        calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert path.name == "output.py" or not {"click.echo", "click.secho", "print"} & set(calls), path.name


def test_no_file_is_too_long_to_read() -> None:
    """A file is a room: at most 400 lines."""
    long = [path.name for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > 400]

    assert long == []


def test_every_option_is_documented() -> None:
    """docs/configuration.md has every flag, environment variable, default and help text."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    for option in config.options():
        for part in (config.flag_name(option), config.env_name(option), option.metadata["help"]):
            assert part in text, part


def test_every_metric_is_documented() -> None:
    """docs/metrics.md names every metric with its meaning, and every label value."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    for metric in (*metrics.METRICS, *metrics.SERVER_METRICS):
        for part in (f"rdnscache_{metric.name}", metric.help, *(value for _, value in metric.labels)):
            assert part in text, part


@cache
def all_tests() -> list[tuple[Path, ast.Module]]:
    """Every test file, read."""
    return [(path, ast.parse(path.read_text())) for path in sorted((ROOT / "tests").glob("test_*.py"))]


def test_no_test_imports_another_test_file() -> None:
    """What two of them need is in tests/support/: a test file can be changed without a look at the others."""
    for path, tree in all_tests():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name == "conftest" or name.startswith("test_")], path.name


def test_every_test_has_its_sentence() -> None:
    """It says which behaviour it proves, and ends with a full stop."""
    for path, tree in all_tests():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                first = (ast.get_docstring(node) or "").partition("\n\n")[0]
                assert first.endswith("."), f"{path.name}:{node.lineno}"


def test_helpers_exist_once() -> None:
    """No test file makes again what tests/support/ or another one has."""
    seen: dict[str, str] = {}
    parts = [(path, ast.parse(path.read_text())) for path in sorted((ROOT / "tests" / "support").glob("*.py"))]
    for path, tree in (*parts, *all_tests()):
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.lower().startswith("test"):
                said = node.body[1:] if ast.get_docstring(node) is not None else node.body
                what = "\n".join(ast.dump(part) for part in said)
                assert what not in seen, f"{path.name}:{node.lineno} and {seen[what]}"
                seen[what] = f"{path.name}:{node.lineno}"
