"""How things end on the way from a question to its reply, each way by name. What is counted of them is in `metrics`.

Numbers with names are for what every query meets; what only a miss meets is an enum.
"""

from __future__ import annotations

from enum import Enum, IntEnum

#: The layer that had the answer. From the local cache of this worker;
L1 = 0
#: from a flight that somebody else had begun, whatever that brought;
FLIGHT = 1
#: from Redis;
L2 = 2
#: from another worker, of this node or another, that asked at the same time;
FOLLOWER = 3
#: from an upstream, which this worker has asked;
UPSTREAM = 4
#: an entry past its TTL, since a refresh takes long or has failed (RFC 8767);
STALE = 5
#: no answer could be had, or too many wait: SERVFAIL, or what upstreams say;
FAILURE = 6
#: made by ourselves, without cache or upstream.
LOCAL = 7
LAYERS = ("l1", "flight", "l2", "follower", "upstream", "stale", "failure", "local")

#: What came of joining a flight. The reply will come;
JOINED = 0
#: the same datagram is there already, and one reply is enough;
REPEATED = 1
#: its client waits for too much;
GREEDY = 2
#: all clients together do.
FULL = 3

#: Why a query is shed. Too many wait in all; too many of its client; its flight did not begin in time; its flight made
#: way for others'.
SHED_FULL, SHED_CLIENT, SHED_LATE, SHED_CROWDED = range(4)
SHED_REASONS = ("full", "client", "late", "crowded")


class Verdict(IntEnum):
    """What Redis says to a claim; the numbers are those of the script."""

    #: Somebody was faster: here is a fresh entry.
    ENTRY = 1
    #: The claim is ours: we lead.
    LEAD = 2
    #: Another leads: we shall be woken.
    FOLLOW = 3


class Ending(Enum):
    """How the attempt to get an answer from the cluster ends. With an answer:"""

    #: Redis had it when we claimed.
    FOUND = "found"
    #: The leader's message brought it.
    WOKEN = "woken"
    #: We looked again and it was there: the message was lost, or is late.
    SEEN = "seen"

    # without one, so that we ask an upstream; as the leader, whose reply is stored:
    LEADS = "leads"
    # or for ourselves: Redis cannot be asked, or does not answer in time
    ALONE = "alone"
    #: No upstream could be reached from here, so claims are left to others; we see whether one can be reached again.
    UNFIT = "unfit"
    #: Somebody held the claim for as long as we had patience, and no answer came of it.
    MISLED = "misled"


# Under their own names as well: up to Python 3.11 a look-up in the class costs more than all else about the member.
ENTRY, LEAD, FOLLOW = Verdict
FOUND, WOKEN, SEEN, LEADS, ALONE, UNFIT, MISLED = Ending
