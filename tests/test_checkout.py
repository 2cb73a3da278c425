"""`make serve` in a fresh checkout: a node answers while it is compiled, and takes that form without losing a query."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import pytest
from support import ROOT, Upstream, alive, ask, children_of, clean_env, free_port, wait_for

pytestmark = pytest.mark.once


@contextmanager
def started(upstream: Upstream, folder: Path, compiling: str) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """deploy/checkout.py in a folder of its own, with a shell script for the compiler; its port and what it said."""
    port, said = free_port(), folder / "said"
    serving = [sys.executable, "-m", "rdnscache", "serve", "--redis", "none", "--workers", "2"]
    serving += ["--listen", f"127.0.0.1:{port}", "--upstream", upstream.address]
    command = [sys.executable, str(ROOT / "deploy/checkout.py"), "sh", "-c", compiling, "--", *serving]
    env = clean_env({"PYTHONPATH": str(ROOT)})
    with said.open("wb") as out:
        node = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder, env=env)
    try:
        wait_for(lambda: answers(port), 15)
        yield node, port, said
    finally:
        node.terminate()
        node.wait(15)


def answers(port: int) -> bool:
    try:
        return bool(ask(port, "www.example.com.", timeout=0.5).answer)
    except (dns.exception.Timeout, OSError):
        return False


def test_a_node_takes_the_compiled_form_when_it_is_there(upstream: Upstream, tmp_path: Path) -> None:
    """It answers before, keeps its process and its port, and every question asked meanwhile is answered."""
    (tmp_path / "wait").touch()
    compiling = 'test "$REQUIRE_COMPILED" = 1 || exit 9; while test -e wait; do sleep 0.05; done'
    with started(upstream, tmp_path, compiling) as (node, port, said):
        assert "compiled:" not in said.read_text()
        before = set(children_of(node.pid))
        (tmp_path / "wait").unlink()
        asked = 0

        def succeeded() -> bool:
            nonlocal asked
            asked += 1
            assert ask(port, f"n{asked}.example.com.", timeout=5).answer
            return "restarting" in said.read_text() and not any(alive(pid) for pid in before)

        wait_for(succeeded, 30)
        assert node.poll() is None
        assert answers(port)


def test_a_node_goes_on_when_it_cannot_be_compiled(upstream: Upstream, tmp_path: Path) -> None:
    """One line says why, and nothing is restarted."""
    compiling = (
        "echo something; echo 'rdnscache: no compiled form: no C compiler'; echo 'make: *** [compile]' >&2; exit 2"
    )
    with started(upstream, tmp_path, compiling) as (_, port, said):
        wait_for(lambda: "no compiled form" in said.read_text())
        (line,) = [line for line in said.read_text().splitlines() if "compiled form" in line]

        assert line.endswith("the node goes on in plain Python: no C compiler (all of it: build/compile.log)")
        assert answers(port)
        assert "restarting" not in said.read_text()


def test_compiling_ends_with_the_node(upstream: Upstream, tmp_path: Path) -> None:
    """Who stops the node at once does not leave a compiler behind."""
    with started(upstream, tmp_path, "echo $$ > pid; exec sleep 300") as (node, _, _):
        compiler = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()))
        assert alive(compiler)
        os.kill(node.pid, signal.SIGTERM)
        assert node.wait(15) == 0

        wait_for(lambda: not alive(compiler))


def test_what_is_compiled_later_is_for_the_next_image(tmp_path: Path) -> None:
    """A worker that a plain supervisor forks while modules are put in place takes none of them."""
    shutil.copytree(ROOT / "rdnscache", tmp_path / "rdnscache", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    code = (
        "import importlib.machinery, pathlib, rdnscache\n"
        "suffix = importlib.machinery.EXTENSION_SUFFIXES[0]\n"
        "for name in ('dns/splice', 'cache'):\n"
        "    pathlib.Path('rdnscache', name + suffix).write_bytes(b'no module')\n"
        "from rdnscache import cache, forms\n"
        "print(cache.__file__.endswith('cache.py'), forms.form(), forms.is_compiled())\n"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=clean_env(), capture_output=True, text=True,
                          check=True).stdout  # fmt: skip
    assert said == "True pure Python True\n"
