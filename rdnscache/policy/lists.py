"""All lists of a policy together, and operators' orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rdnscache.policy.directives import NOTHING, Directives
from rdnscache.policy.name_table import Match, NameTable
from rdnscache.policy.rpz import ResponsePolicy, RpzZone

#: The name in origins for the list of names blocked by operators' orders.
ORDERED = "cluster"


class Listed(NamedTuple):
    """A list: what origins call it, and its names."""

    name: str
    table: NameTable


class Found(NamedTuple):
    """The decision about a name, with the list and line that made it: `block=ads.txt:17`."""

    why: str
    passes: bool
    #: Made by an operator's order.
    ordered: bool = False


class Lists:
    """Exceptions in any list take precedence over blocks. Of several blocks the longest name counts, then the first
    list; operators' orders take precedence over all lists."""

    def __init__(
        self,
        lists: Sequence[Listed] = (),
        directives: Directives = NOTHING,
        zones: Sequence[RpzZone] = (),
        blocks: bool = True,
    ) -> None:
        self._finds = [(listed.table.find, listed.name) for listed in lists]
        self._directives = directives if directives else None
        self._paused = directives.paused
        #: Whether lists block; exceptions in them count in any case.
        self._blocks = blocks
        #: The response policy zones that are applied at present.
        self.rpz = ResponsePolicy(() if directives.paused else zones)
        self._block = not directives.paused and (bool(lists or self.rpz) or self._directives is not None)

    def __bool__(self) -> bool:
        """Whether anything may be blocked."""
        return self._block

    def find(self, name: bytes) -> Found | None:
        """The decision about a name (wire form, lower case); None when there is none."""
        if self._directives is not None:
            if self._paused:
                return None
            ordered = self._directives.passes(name)
            if ordered is not None:
                return Found(f"{'pass' if ordered else 'block'}={ORDERED}", ordered, True)
        best: Match | None = None
        for find, listed in self._finds:
            match = find(name)
            if match is None:
                continue
            if match.passes:
                return Found(f"pass={listed}:{match.line}", True)
            if best is None or len(match.name) > len(best.name):
                best, where = match, listed
        return Found(f"block={where}:{best.line}", False) if best is not None and self._blocks else None
