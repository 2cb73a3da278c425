"""The compiled modules beside the sources, and whether they are up to date."""

from __future__ import annotations

import ast
import os
import re
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from .processes import ROOT


def modules(root: Path = ROOT) -> dict[str, str]:
    """The compiled modules and the suffixes of their sources, as setup.py lists them."""
    tree = ast.parse((root / "setup.py").read_text())
    lists = (node.value for node in tree.body if isinstance(node, ast.Assign) and "COMPILED" in ast.unparse(node))
    found: dict[str, str] = ast.literal_eval(next(lists))
    return found


def outdated(root: Path = ROOT) -> list[str]:
    """A sentence for each compiled file that is older than its sources, or belongs to no module."""
    listed = {Path(name.replace(".", "/")): suffix for name, suffix in modules(root).items()}
    found = []
    for path in sorted((root / "rdnscache").rglob("*.so")):
        suffix = next(each for each in EXTENSION_SUFFIXES if path.name.endswith(each))
        module = path.relative_to(root).with_name(path.name.removesuffix(suffix))
        if module not in listed:
            found.append(f"{path.relative_to(root)} belongs to no compiled module: delete it")
            continue
        sources = {root / module.with_suffix(listed[module]), *_declarations(root / module.with_suffix(".pxd"), root)}
        newer = sorted(source for source in sources if source.stat().st_mtime > path.stat().st_mtime)
        found += (
            [f"{path.relative_to(root)} is older than {newer[0].relative_to(root)}: `make compile`"] if newer else []
        )
    return found


def refuse_outdated(root: Path = ROOT) -> None:
    """End the tests if compiled modules are not up to date."""
    if os.environ.get("RDNSCACHE_PURE", "0") in ("", "0") and (found := outdated(root)):
        pytest.exit("\n".join(found), returncode=pytest.ExitCode.USAGE_ERROR)


def _declarations(path: Path, root: Path) -> set[Path]:
    """A `.pxd`, if it exists, and all of ours that it cimports from."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        each = waiting.pop()
        if each in found or not each.exists():
            continue
        found.add(each)
        names = re.findall(r"^from (rdnscache\.[\w.]+) cimport", each.read_text(), re.MULTILINE)
        waiting += [root / (name.replace(".", "/") + ".pxd") for name in names]
    return found
