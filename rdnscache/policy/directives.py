"""Operators' orders for the whole cluster, in addition to lists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Most names that can be blocked or passed by orders; for more there are lists.
MOST_DIRECTED = 1000


@dataclass(frozen=True, slots=True)
class Directives:
    """Names (wire form, lower case) include everything below them."""

    blocked: frozenset[bytes] = frozenset()
    passed: frozenset[bytes] = frozenset()
    #: Whether blocking is paused.
    paused: bool = False

    def __bool__(self) -> bool:
        return self.paused or bool(self.blocked or self.passed)

    def passes(self, name: bytes) -> bool | None:
        """Whether a name is never to be blocked, or is blocked; None when nothing is said about it.

        The longest name decides; one that is both passed and blocked passes.
        """
        for parent in parents(name):
            if parent in self.passed:
                return True
            if parent in self.blocked:
                return False
        return None


#: No orders.
NOTHING = Directives()


def parents(name: bytes) -> Iterable[bytes]:
    """The name and everything above it but the root."""
    at = 0
    while name[at]:
        yield name[at:]
        at += 1 + name[at]
