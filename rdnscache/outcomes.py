"""Names for every outcome on the way from a question to its reply. `metrics` derives its counters from them.

Outcomes that every query meets are named integers, for speed; those that only a miss meets are enums.
"""

from __future__ import annotations

from enum import Enum, IntEnum

#: The layer an answer came from: the local cache of this worker;
L1 = 0
#: a flight that another query had started, wherever that got its answer;
FLIGHT = 1
#: Redis;
L2 = 2
#: another worker, of this node or another, that asked at the same time;
FOLLOWER = 3
#: an upstream that this worker has asked;
UPSTREAM = 4
#: an entry past its TTL, because a refresh takes long or has failed (RFC 8767);
STALE = 5
#: none, because asking failed or too many wait: SERVFAIL, or the RCODE of upstreams;
FAILURE = 6
#: this node itself, without cache or upstream.
LOCAL = 7
LAYERS = ("l1", "flight", "l2", "follower", "upstream", "stale", "failure", "local")

#: The result of joining a flight: the reply will come;
JOINED = 0
#: the same datagram is waiting already, and one reply is enough;
REPEATED = 1
#: too many queries of its client are waiting;
GREEDY = 2
#: too many queries of all clients together are waiting.
FULL = 3

#: Why a query is shed: too many waiting in all; too many of its client; its flight did not begin in time; its flight
#: was ended in favour of others.
SHED_FULL, SHED_CLIENT, SHED_LATE, SHED_CROWDED = range(4)
SHED_REASONS = ("full", "client", "late", "crowded")


class Verdict(IntEnum):
    """The reply of Redis to a claim; the numbers are those of the script."""

    #: There is a fresh entry already.
    ENTRY = 1
    #: The claim is ours: this worker leads.
    LEAD = 2
    #: Another worker leads, and will wake us.
    FOLLOW = 3


class Ending(Enum):
    """How the attempt to get an answer from the cluster ended. First those with an answer:"""

    #: Redis had it at the time of the claim.
    FOUND = "found"
    #: It came with the leader's message.
    WOKEN = "woken"
    #: Polling found it: the leader's message was lost or is late.
    SEEN = "seen"

    # then those without one, after which this worker asks an upstream: as the leader, whose reply is stored, or for its
    # own clients only, where Redis does not answer in time;
    LEADS = "leads"
    #: This worker could reach no upstream, so it does not claim; it tries whether one can be reached again.
    UNFIT = "unfit"
    #: Another worker held the claim until our patience ended, and no answer came.
    MISLED = "misled"


# As module names as well: up to Python 3.11 looking a member up in its class costs more than everything done with it.
ENTRY, LEAD, FOLLOW = Verdict
FOUND, WOKEN, SEEN, LEADS, UNFIT, MISLED = Ending
