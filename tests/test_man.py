"""The man pages: one for each command, from the same texts as --help."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from rdnscache.cli import main

#: About the command line, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the pages have been made."""
    made = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, ROOT / "docs/man.py", made], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    return made


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words it is called by."""
    found = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        found += leaves(command, (*path, name)) if isinstance(command, click.Group) else [((*path, name), command)]
    return found


def plain(page: str) -> str:
    return page.replace(r"\-", "-").replace(r"\fB", "").replace(r"\fR", "").replace("\\\n", "")


def test_every_command_and_option_is_there(folder: Path) -> None:
    """Each command has its page or its part of one, with all options that --help has."""
    for path, command in leaves(main):
        page = plain((folder / f"rdnscache-{path[0]}.1").read_text("ascii"))
        assert f"\nrdnscache {' '.join(path)} " in page
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert all(word in page for word in option.opts), (path, option.opts)


def test_a_command_of_a_group_is_found_by_its_own_name(folder: Path) -> None:
    """`man rdnscache-cache-flush` shows the page that has it."""
    for path, _ in leaves(main):
        if len(path) == 2:
            page = folder / f"rdnscache-{'-'.join(path)}.1"
            assert page.read_text() == f".so man1/rdnscache-{path[0]}.1\n"


def test_the_first_page_leads_to_all_others(folder: Path) -> None:
    """rdnscache(1) names every other page."""
    page = plain((folder / "rdnscache.1").read_text())
    others = {file.stem for file in folder.iterdir() if not file.read_text().startswith(".so ")} - {"rdnscache"}

    assert others == {f"rdnscache-{name}" for name in main.list_commands(click.Context(main))}
    assert all(f"{name}(1)" in page for name in others)


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff here")
def test_troff_has_nothing_to_say(folder: Path) -> None:
    """The pages format without a warning, and come out as they were meant."""
    for file in (each for each in folder.iterdir() if not each.read_text().startswith(".so ")):
        done = subprocess.run(
            ["groff", "-ww", "-man", "-Tutf8", "-P-cbou", file], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        assert file.stem in done.stdout and "\\" not in done.stdout
