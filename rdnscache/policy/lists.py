"""All lists of a policy together, and what operators have ordered beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rdnscache.policy.directives import NOTHING, Directives
from rdnscache.policy.name_table import Match, NameTable
from rdnscache.policy.rpz import ResponsePolicy, RpzZone

#: The list of names that operators have ordered to be blocked, as origins call it.
ORDERED = "cluster"


class Listed(NamedTuple):
    """A list: what origins call it, and its names."""

    name: str
    table: NameTable


class Found(NamedTuple):
    """What decides about a name: `block=ads.txt:17`, the list and its line."""

    why: str
    passes: bool
    #: An operator has said so.
    ordered: bool = False


class Lists:
    """An exception in any list comes before all blocks. Of several blocks the longest name counts, then the first
    list; an order of an operator comes before all lists."""

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
        #: Whether lists block; what they let pass counts in any case.
        self._blocks = blocks
        #: Response policy zones, as far as they decide anything now.
        self.rpz = ResponsePolicy(() if directives.paused else zones)
        self._block = not directives.paused and (bool(lists or self.rpz) or self._directives is not None)

    def __bool__(self) -> bool:
        """Whether anything may be blocked."""
        return self._block

    def find(self, name: bytes) -> Found | None:
        """What decides about a name (wire form, lower case); None when nothing does."""
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
