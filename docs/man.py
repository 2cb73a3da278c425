"""Writes man pages, from the same texts as --help: `python docs/man.py FOLDER`, a page for each command.

Commands of a group are in its page, and are led to it by names of their own.

Pages are the same whenever they are made: they carry the version, and no date.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from rdnscache import __version__
from rdnscache.cli import main

#: What belongs to all commands; in rdnscache(1) only.
ENVIRONMENT = (
    ("RDNSCACHE_CONFIG", "The node's configuration, for commands that have --config."),
    ("RDNSCACHE_SERVER", "Whom query and cache warm ask."),
    ("RDNSCACHE_OPTION", "Any option of rdnscache serve, in capitals and with '_' for '-'."),
)
FILES = (("/etc/rdnscache/rdnscache.toml", "The node's configuration where no other is named."),)


def pages() -> Iterator[tuple[str, str]]:
    """The name of each page, and its text."""
    context = click.Context(main, info_name="rdnscache", **main.context_settings)
    names = main.list_commands(context)
    others = [f"rdnscache-{name}" for name in names]
    yield "rdnscache", page(main, context, [*_section("ENVIRONMENT", ENVIRONMENT), *_section("FILES", FILES)], others)
    for name in names:
        command = main.get_command(context, name)
        assert command is not None
        below = click.Context(command, info_name=name, parent=context)
        yield f"rdnscache-{name}", page(command, below, [], ["rdnscache", *(x for x in others if x[10:] != name)])
        for inner in command.list_commands(below) if isinstance(command, click.Group) else ():
            yield f"rdnscache-{name}-{inner}", f".so man1/rdnscache-{name}.1\n"  # has its part of that page


def page(command: click.Command, context: click.Context, more: list[str], others: list[str]) -> str:
    title = context.command_path.replace(" ", "-")
    lines = [
        f'.TH {roff(title.upper())} 1 "" "rdnscache {__version__}" "User Commands"',
        ".nh",  # a command or an option is not to be hyphenated
        ".ad l",
        ".SH NAME",
        rf"{roff(title)} \- {roff(_phrase(command))}",
        ".SH SYNOPSIS",
        *synopsis(command, context),
        ".SH DESCRIPTION",
        *text(command),
        *options(".SH OPTIONS", command, context),
    ]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            inner = click.Context(below, info_name=name, parent=context)
            if context.parent is None:  # it has a page of its own
                lines += [".TP", rf"\fB{roff(f'rdnscache-{name}')}\fR(1)", roff(below.get_short_help_str(200))]
            else:
                lines += [f'.SS "{roff(name)}"', *synopsis(below, inner), ".PP", *text(below)]
                lines += options(".PP\nOptions:", below, inner)
    see = ",\n".join(rf"\fB{roff(each)}\fR(1)" for each in others)
    return "\n".join([*lines, *more, ".SH SEE ALSO", see, ""])


def _phrase(command: click.Command) -> str:
    """What it does, as it stands behind a name: from a small letter on, without a full stop."""
    said = command.get_short_help_str(200).rstrip(".")
    return said[:1].lower() + said[1:]


def synopsis(command: click.Command, context: click.Context) -> list[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    return [rf"\fB{roff(context.command_path)}\fR {roff(pieces)}"]


def text(command: click.Command) -> Iterator[str]:
    """The help of a command, by paragraphs; what click prints with its line breaks keeps them here."""
    for number, paragraph in enumerate(inspect.cleandoc(command.help or "").split("\n\n")):
        kept = paragraph.startswith("\b\n")
        if number:
            yield ".PP"
        if kept:
            yield ".nf"
        yield from (roff(line) for line in paragraph.removeprefix("\b\n").splitlines())
        if kept:
            yield ".fi"


def options(head: str, command: click.Command, context: click.Context) -> Iterator[str]:
    """Those that say what they are for; arguments are in the synopsis, and what they mean in the description."""
    shown = command.params if context.parent else command.get_params(context)  # --help is in rdnscache(1) alone
    records = [record for each in shown if (record := each.get_help_record(context)) and record[1]]
    if records:
        yield head
        yield from _list(records)


def _section(name: str, told: tuple[tuple[str, str], ...]) -> Iterator[str]:
    yield f".SH {name}"
    yield from _list(told)


def _list(told: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> Iterator[str]:
    for term, meaning in told:
        yield from (".TP", rf"\fB{roff(term)}\fR", roff(meaning))


def roff(line: str) -> str:
    """A text as troff takes it literally: a '-' that can be copied, no macro at the beginning of a line, ASCII."""
    escaped = line.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    escaped = "".join(letter if letter.isascii() else rf"\[u{ord(letter):04X}]" for letter in escaped)
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, written in pages():
        (folder / f"{name}.1").write_text(written, encoding="ascii")
