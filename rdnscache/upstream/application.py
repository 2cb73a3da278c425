"""The types of a request for slots of an upstream's budget: its terms, its content, and who gets the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rdnscache.upstream.allowance import Allotment


@dataclass(frozen=True, slots=True)
class Terms:
    """A budget: the server it is for, queries a second, this worker's number and the number of workers of this node.

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
    """A request to Redis. `lent` is the time, by its clock, until which our share is lent; times are in seconds."""

    server: str
    rate: float
    weight: float
    share: float
    lent: float
    count: int
    ahead: float


class Applicant(Protocol):
    """The sender of requests, one at a time. One of its methods is called in the hub, perhaps at once."""

    def allotted(self, told: Allotment) -> None:
        """Redis has answered."""

    def refused(self) -> None:
        """Redis has answered with an error."""

    def lost(self) -> None:
        """The connection is lost; called even if there was no request."""


#: Asks Redis for slots; False if it is not usable.
Ask = Callable[[Request, Applicant], bool]


def nobody(request: Request, applicant: Applicant) -> bool:
    """The `Ask` of a node without Redis."""
    return False
