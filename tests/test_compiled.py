"""Tests do not run on modules that were compiled from other sources than these."""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from support.compiled import outdated, refuse_outdated

pytestmark = [
    pytest.mark.pure,
    pytest.mark.once,
    pytest.mark.skipif(sys.platform != "linux", reason="it is compiled on Linux"),
]
SUFFIX = EXTENSION_SUFFIXES[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Two modules, compiled a moment ago; the second takes types from the first."""
    (tmp_path / "setup.py").write_text('COMPILED = {"rdnscache.one": ".py", "rdnscache.two": ".pyx"}\n')
    package = tmp_path / "rdnscache"
    package.mkdir()
    (package / "two.pxd").write_text("from rdnscache.one cimport One\n")
    for name in ("one.py", "one.pxd", "two.py", "two.pyx"):
        (package / name).touch()
    for path in package.iterdir():
        os.utime(path, (1000, 1000))
    for name in ("one", "two"):
        (package / f"{name}{SUFFIX}").touch()
        os.utime(package / f"{name}{SUFFIX}", (2000, 2000))
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "which"),
    [("one.py", ["one"]), ("one.pxd", ["one", "two"]), ("two.pxd", ["two"]), ("two.pyx", ["two"]), ("two.py", [])],
)
def test_what_is_older_than_its_sources_is_found(checkout: Path, changed: str, which: list[str]) -> None:
    """Its own, and the types it takes from others; the plain twin of what is written in Cython is none of them."""
    assert outdated(checkout) == []
    os.utime(checkout / "rdnscache" / changed, (3000, 3000))
    assert outdated(checkout) == [
        f"rdnscache/{name}{SUFFIX} is older than rdnscache/{changed}: `make compile`" for name in which
    ]


def test_what_is_left_of_a_module_is_found(checkout: Path) -> None:
    """A module that was renamed leaves something behind that would still be imported."""
    (checkout / "rdnscache" / f"gone{SUFFIX}").touch()
    assert outdated(checkout) == [f"rdnscache/gone{SUFFIX} belongs to no compiled module: delete it"]


def test_tests_are_refused(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sentence that says what is to be done; the plain form can be tested nevertheless."""
    monkeypatch.setenv("RDNSCACHE_PURE", "")
    refuse_outdated(checkout)
    os.utime(checkout / "rdnscache" / "two.pyx", (3000, 3000))
    with pytest.raises(pytest.exit.Exception, match=r"two\.pyx: `make compile`"):
        refuse_outdated(checkout)
    monkeypatch.setenv("RDNSCACHE_PURE", "1")
    refuse_outdated(checkout)
