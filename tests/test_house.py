"""The house checks itself: imports run downward, rooms are small, and the docs name what there is."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from support import ROOT

from rdnscache import config, config_text, metrics

#: About the sources, not about the two forms of the hot modules.
pytestmark = [pytest.mark.pure, pytest.mark.once]

PACKAGE = ROOT / "rdnscache"
#: The supervisor loads what workers are made of.
ALLOWED_UPWARD = {("node.supervisor", "loading")}


def documented_order() -> dict[str, int]:
    """Where docs/architecture.md puts each module, from the roof down; those of a group have the same number."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    block = text[text.index("test_house.py` reads this list") :].split("```")[1].removeprefix("text\n")
    order: dict[str, int] = {}
    for line in block.replace("\n   ", "").splitlines():
        room, slash, rest = line.partition("/")
        groups = (rest if slash else line).split(">")
        if slash:
            order[room] = len(order)
        for group in groups:
            names = [f"{room}.{name}" if slash else name for name in group.split()]
            assert not order.keys() & names, line
            order |= dict.fromkeys(names, len(order))
    return order


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported_modules(path: Path) -> set[str]:
    """Of this package, wherever the import stands: in a function or behind TYPE_CHECKING as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rdnscache":
            base = PACKAGE.parent.joinpath(*(node.module or "").split("."))
            for alias in node.names:
                inner = [base / f"{alias.name}.py", base / alias.name / "__init__.py"]
                outer = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
                found.add(module_of(next((each for each in inner if each.exists()), outer)))
    return found


def test_imports_run_downward() -> None:
    """No module imports from above itself, inside its room as well, so there is no circle: in the documented order."""
    order = documented_order()
    paths = {module_of(path): path for path in PACKAGE.rglob("*.py")}
    assert paths.keys() - order.keys() <= {room for room in paths if (PACKAGE / room).is_dir()}
    assert order.keys() <= {*paths, *(path.parent.name for path in paths.values())}

    upward = {
        (module, other)
        for module, path in paths.items()
        for other in imported_modules(path)
        if order[other] <= order[module]
    }

    assert upward == ALLOWED_UPWARD


def test_the_cellar_knows_no_socket_clock_redis_or_gevent() -> None:
    """dns/, clients/, policy/ and the cache are pure: time comes in as an argument."""
    banned = {"socket", "time", "redis", "gevent", "hiredis", "select"}
    rooms = [path for room in ("dns", "clients", "policy") for path in (PACKAGE / room).glob("*.py")]
    for path in [*rooms, PACKAGE / "cache.py"]:
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
        for part in (config_text.flag_name(option), config_text.env_name(option), option.metadata["help"]):
            assert part in text, part


def test_every_metric_is_documented() -> None:
    """docs/metrics.md names every metric with its meaning, and every label value."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    for metric in (*metrics.METRICS, *metrics.SERVER_METRICS, metrics.CERTIFICATE_EXPIRY):
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
