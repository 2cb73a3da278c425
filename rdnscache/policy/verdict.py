"""The decision about a question or an answer."""

from __future__ import annotations

from dataclasses import dataclass

from rdnscache.dns.wire import NO_EDE

#: Actions: answer; drop the query; or send a truncated reply over UDP, so that the client asks over TCP.
ANSWERED, DROPPED, TRUNCATED = range(3)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer, and its reason, such as `block=ads.txt:17` for a list and a line."""

    wire: bytes
    why: str
    ede: int = NO_EDE
    #: The target, in wire form, of an alias that leads out of the local records and has to be followed.
    target: bytes | None = None
    #: Seconds for which it is cached; -1: according to its records.
    ttl: int = -1
    action: int = ANSWERED
