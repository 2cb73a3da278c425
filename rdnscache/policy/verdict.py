"""What is decided about a question or an answer."""

from __future__ import annotations

from dataclasses import dataclass

from rdnscache.dns.wire import NO_EDE

#: What is done beside answering: nothing else; the client hears nothing; over UDP it hears only that the answer is
#: longer, so that it asks over TCP.
ANSWERED, DROPPED, TRUNCATED = range(3)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is answered, and why: `block=ads.txt:17`, the list and its line."""

    wire: bytes
    why: str
    ede: int = NO_EDE
    #: What an alias that leads out of the local records leads to, on the wire: to be followed.
    target: bytes | None = None
    #: Seconds for which it is kept; -1: as long as its records say.
    ttl: int = -1
    action: int = ANSWERED
