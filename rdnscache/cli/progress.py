"""Progress of a long command, for the person waiting."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import click

from rdnscache.cli.output import on_terminal
from rdnscache.errors import StoreDown

if TYPE_CHECKING:
    from rdnscache.operator.entries import Browser

T = TypeVar("T")


def progress(items: Iterable[T], browser: Browser, prints: bool = False, each: int = 1) -> Iterator[T]:
    """Pass on the items, showing progress on the terminal unless the items themselves are printed there.

    `each` is the number of keys in Redis per item.
    """
    if not on_terminal(sys.stderr) or (prints and on_terminal(sys.stdout)):
        yield from items
        return
    length = keys(browser)
    steps = None if length is None else length // each + 1
    with click.progressbar(items, steps, file=sys.stderr, label="reading", update_min_steps=1 + 1000 // each) as bar:
        yield from bar


def keys(browser: Browser) -> int | None:
    """About how many keys there are; None when the user may not ask."""
    try:
        return browser.count()
    except StoreDown:
        return None
