"""How a part of a server's budget is asked for: by whom, what Redis is told, and who hears what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rdnscache.upstream.allowance import Allotment


@dataclass(frozen=True, slots=True)
class Terms:
    """Of a budget: for which server (its place), how many queries a second, and among how many workers of this node.

    `alone`: there are no other nodes.
    """

    server: str
    label: str
    rate: float
    worker: int
    workers: int
    alone: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of Redis. `lent` is the moment, by its clock, until which our share is lent; times in seconds."""

    server: str
    rate: float
    weight: float
    share: float
    lent: float
    count: int
    ahead: float


class Applicant(Protocol):
    """Who asks for slots, one request at a time. What comes of one is told in the hub, perhaps at once."""

    def allotted(self, told: Allotment) -> None:
        """It has been answered."""

    def refused(self) -> None:
        """Redis would not."""

    def lost(self) -> None:
        """The connection is lost; said also when nothing was asked."""


#: Asks Redis for slots; False when it is away or left alone.
Ask = Callable[[Request, Applicant], bool]


def nobody(request: Request, applicant: Applicant) -> bool:
    """There is no Redis."""
    return False
