"""The types beside the hot modules are about what is in them: Cython says nothing when a `.pxd` has drifted."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

#: About the sources, not about the two forms of the hot modules.
pytestmark = [pytest.mark.pure, pytest.mark.once]

#: Not those of a `.pyx`, which Cython holds against each other, nor what tells of C alone.
DECLARATIONS = sorted(
    path
    for path in (ROOT / "rdnscache").rglob("*.pxd")
    if path.with_suffix(".py").exists() and not path.with_suffix(".pyx").exists()
)
CLASS = re.compile(r"cdef class (\w+)(?:\((.*)\))?:")
ROUTINE = re.compile(r"cp?def (?:inline )?(?:.*?)\b(\w+)\(([^()]*)\)")
LOCALS = re.compile(r"@cython\.locals\((.*)\)")
DATA = re.compile(r"cdef (?:public |readonly )*(?:unsigned |const )*[\w.]+\*? (\w.*)")

Scope = ast.Module | ast.ClassDef | ast.FunctionDef


def assigned(scope: ast.AST) -> set[str]:
    """What a scope gives a value to: names, and attributes of `self`."""
    found = set()
    for node in ast.walk(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            found.add(node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


def parts_of(scope: Scope) -> dict[str, ast.stmt]:
    """The classes and functions right inside of a scope."""
    return {node.name: node for node in ast.walk(scope) if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def names(arguments: str) -> list[str]:
    """Of the arguments of a declaration, without types and defaults."""
    found = [part.split("=")[0].split()[-1].lstrip("*") for part in arguments.split(",") if part.strip()]
    return [name for name in found if name]


def declarations(pxd: str) -> Iterator[tuple[int, str]]:
    """Each line without its comment; one that goes on over several, up to its last parenthesis, is one."""
    text = ""
    for number, line in enumerate(pxd.splitlines(), 1):
        part = line.split("#")[0].rstrip()
        text = text + part.strip() if text else part
        if text.count("(") == text.count(")"):
            yield number, text
            text = ""


def drifted(pxd: str, source: str) -> list[str]:
    """What a `.pxd` declares and its module does not have, each as `line: what`."""
    module = ast.parse(source)
    scope: Scope = module
    found: list[str] = []
    locals_: list[str] = []
    for number, text in declarations(pxd):
        line = text.strip()
        if line and not text.startswith(" "):
            scope = module
        if match := CLASS.fullmatch(line):
            part = parts_of(module).get(match[1])
            if isinstance(part, ast.ClassDef):
                scope = part
                bases = [ast.unparse(base) for base in part.bases]
                found += [f"{number}: {match[1]} is no {base}" for base in names(match[2] or "") if base not in bases]
            else:
                found.append(f"{number}: class {match[1]}")
        elif match := LOCALS.fullmatch(line):
            locals_ = re.findall(r"(\w+)=", match[1])
        elif line.startswith(("cdef", "cpdef")) and (match := ROUTINE.match(line)):
            part = parts_of(scope).get(match[1])
            if not isinstance(part, ast.FunctionDef):
                found.append(f"{number}: {match[1]}()")
            else:
                there = [argument.arg for argument in (*part.args.posonlyargs, *part.args.args)]
                if names(match[2]) != there:
                    found.append(f"{number}: {match[1]}({', '.join(there)})")
                found += [f"{number}: {name} in {match[1]}()" for name in locals_ if name not in assigned(part)]
            locals_ = []
        elif match := DATA.fullmatch(line):
            found += [f"{number}: {name}" for name in names(match[1]) if name not in assigned(scope)]
    return found


@pytest.mark.parametrize("path", DECLARATIONS, ids=lambda path: path.name)
def test_what_is_declared_exists(path: Path) -> None:
    """Every class, base, attribute, routine, argument and local of a `.pxd` is in its module, under the same name."""
    assert drifted(path.read_text(), path.with_suffix(".py").read_text()) == []


def kept(part: ast.ClassDef) -> set[str]:
    """The attributes of `self` that a class gives a value to."""
    return {
        node.attr
        for node in ast.walk(part)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def declared_classes(first: Path) -> dict[str, tuple[list[str], set[str]]]:
    """For each class of any `.pxd`: its bases, and the data it is declared to have. Of two names, that in `first`."""
    found: dict[str, tuple[list[str], set[str]]] = {}
    for path in (*DECLARATIONS, first):
        data: set[str] = set()
        for _, text in declarations(path.read_text()):
            if match := CLASS.fullmatch(text):
                data = set()
                found[match[1]] = names(match[2] or ""), data
            elif text and not text.startswith(" "):
                data = set()
            elif (match := DATA.fullmatch(re.sub(r"\[.*?\]", "", text.strip()))) and "(" not in text:
                data.update(names(match[1]))
    return found


@pytest.mark.parametrize("path", DECLARATIONS, ids=lambda path: path.name)
def test_what_an_object_keeps_is_declared(path: Path) -> None:
    """An object of C has no place for anything else: what is missing here ends a compiled worker at its start."""
    classes = declared_classes(path)
    for name, part in parts_of(ast.parse(path.with_suffix(".py").read_text())).items():
        if isinstance(part, ast.ClassDef) and name in classes:
            line, data = [name], set[str]()
            while line:
                bases, own = classes.get(line.pop(), ([], set()))
                line += bases
                data |= own
            assert kept(part) - data == set(), name


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        ("cdef int _A, _C", "1: _C"),
        ("cdef class Gone:", "1: class Gone"),
        ("cdef class Thing(dict):", "1: Thing is no dict"),
        ("cdef class Thing:\n    cdef public Py_ssize_t gone", "2: gone"),
        ("cdef class Thing:\n    cpdef int gone(self)", "2: gone()"),
        ("cdef class Thing:\n    cpdef int run(self, bytes other)", "2: run(self, data)"),
        ("cdef class Thing:\n    @cython.locals(gone=int)\n    cpdef int run(self, bytes data)", "3: gone in run()"),
        ("@cython.locals(gone='unsigned int')\ncdef bytes read(bytes data, int at=*) except? -1", "2: gone in read()"),
        ("cpdef bytes read(bytes data)", "1: read(data, at)"),
    ],
)
def test_what_has_drifted_is_found(declared: str, what: str) -> None:
    """Each kind of declaration that its module knows nothing of."""
    source = (
        "_A = 1\n"
        "class Thing(list):\n    def __init__(self): self.at = 0\n"
        "    def run(self, data):\n        size = len(data)\n        return size\n"
        "def read(data, at=0):\n    return data\n"
    )
    assert drifted(declared, source) == [what]


@pytest.mark.parametrize("pxd", DECLARATIONS, ids=lambda path: str(path.relative_to(ROOT / "rdnscache")))
def test_no_declared_method_uses_super(pxd: Path) -> None:
    """Where C calls it there is no frame for `super()`, and it raises; the base has to be named."""
    declared = {
        match[1]
        for _, text in declarations(pxd.read_text())
        if (match := ROUTINE.fullmatch(text.strip().split(" except")[0]))
    }
    found = [
        function.name
        for function in ast.walk(ast.parse(pxd.with_suffix(".py").read_text()))
        if isinstance(function, ast.FunctionDef)
        and function.name in declared
        and any(isinstance(node, ast.Call) and ast.unparse(node.func) == "super" for node in ast.walk(function))
    ]
    assert found == []
