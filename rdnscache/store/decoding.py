"""Reading what Redis holds, in the form that `contract` describes, of which nothing is trusted; and how a fill writes
`info`."""

from __future__ import annotations

import re
from enum import Enum

from rdnscache.dns.entry import Entry
from rdnscache.dns.names import rcode_text
from rdnscache.dns.policy import Limits, holds_for_name
from rdnscache.dns.question import ANY_TYPE, qtype, section, wider_key
from rdnscache.dns.wire import NO_EDE, Reply, parse_reply, read_u32

_INFO = re.compile(
    rb"rcode=[A-Z0-9]+ ttl=([0-9]{1,7}) stale=([0-9]{1,7}) stored=[0-9TZ:-]{1,30} "
    rb"(from=[!-~]{1,100} node=[!-~]{1,100}(?: route=[!-~]{1,1100})?(?: why=[a-z]{1,20})?)"
    rb"(?: scope=([0-9]{1,3}))?(?: ede=([0-9]{1,5}))?(?: seen=[0-9]{1,19}-[0-9]{1,19})?"
)
#: Where an entry's `info` has no `scope`.
NO_SCOPE = -1
#: The limits of a node that was told none.
LIMITS = Limits()

#: The few origins there are, each kept once.
_origins: dict[bytes, str] = {}
_MANY_ORIGINS = 1000


class Lifetime(Enum):
    """What stands for a PTTL where there is none."""

    #: The entry has just been made: all of its time is left.
    WHOLE = "whole"


def decode(
    key: bytes,
    info: object,
    wire: object,
    left_ms: object,
    now: float,
    limits: Limits = LIMITS,
    parsed: Reply | None = None,
) -> Entry | None:
    """The entry for a question from what Redis holds; None when it cannot be used. `parsed` is the wire, if it is.

    Checked: the form of `info`, that `wire` is a whole reply to this very question, and that the time left (its PTTL,
    in ms) is set and not longer than the entry's own times. These, and the TTLs, are brought into the limits.
    """
    if not isinstance(info, bytes) or not isinstance(wire, bytes):
        return None
    match = _INFO.fullmatch(info)
    reply = parsed or (parse_reply(wire) if match is not None else None)
    if match is None or reply is None or reply.rcode > 15 or not _answers(key, reply):
        return None
    if len(reply.wire) != len(wire):  # OPT, or octets behind the last record: nothing a node stores
        return None
    ttl, stale = int(match[1]), int(match[2])
    lifetime = (ttl + stale) * 1000
    if left_ms is Lifetime.WHOLE:
        left_ms = lifetime
    if not isinstance(left_ms, int) or not 0 <= left_ms <= lifetime:
        return None
    least, most = _ttl_range(reply)
    if least < ttl:  # ageing would pass zero
        return None
    if most > limits.ttl_max:
        reply.wire = _capped(reply, limits.ttl_max)
    stored = now - (lifetime - left_ms) / 1000
    entry = Entry(key, reply, stored, min(ttl, limits.ttl_max), min(stale, limits.stale), _origin(match[3]))
    if match[4] is not None:
        entry.scope = min(int(match[4]), 128)
    if match[5] is not None:
        entry.ede = min(int(match[5]), 0xFFFF)
    return entry


def mistimed(info: object, left_ms: object) -> bool:
    """Whether what `decode` refuses is well formed but for its time left: a clock, or a fill between two reads."""
    match = _INFO.fullmatch(info) if isinstance(info, bytes) else None
    if match is None or not isinstance(left_ms, int):
        return False
    return left_ms != -1 and not 0 <= left_ms <= (int(match[1]) + int(match[2])) * 1000


def _answers(key: bytes, reply: Reply) -> bool:
    """Whether a reply is one to the question of a key; for a name's NXDOMAIN, to one of any type."""
    question = reply.question()
    if qtype(key) != ANY_TYPE:
        return question == section(key)
    return holds_for_name(reply) and wider_key(question + b"\0") == section(key) + b"\0"


def read_wake(message: bytes) -> tuple[bytes, bytes, bytes, bytes | None]:
    """The key, `info`, `wire` and `mac` of a wake message; None for the last where it has none."""
    name, _, rest = message.partition(b"\n")
    info, _, wire = rest.partition(b"\n")
    mac = None
    if wire[:1] != b"\0":
        mac, _, wire = wire.partition(b"\n")
    return name, info, wire, mac


def _origin(told: bytes) -> str:
    origin = _origins.get(told)
    if origin is None:
        if len(_origins) >= _MANY_ORIGINS:
            _origins.clear()
        origin = _origins[told] = told.decode("ascii")
    return origin


def _ttl_range(reply: Reply) -> tuple[int, int]:
    """The least and the largest TTL of the records."""
    least, most = 1 << 32, 0
    for index in range(0, len(reply.ttls), 2):
        ttl = read_u32(reply.wire, reply.ttls[index] << 8 | reply.ttls[index + 1])
        least, most = min(least, ttl), max(most, ttl)
    return least, most


def _capped(reply: Reply, ttl_max: int) -> bytes:
    """The wire with no TTL above the limit."""
    out = bytearray(reply.wire)
    for index in range(0, len(reply.ttls), 2):
        at = reply.ttls[index] << 8 | reply.ttls[index + 1]
        out[at : at + 4] = min(read_u32(reply.wire, at), ttl_max).to_bytes(4, "big")
    return bytes(out)


def info_text(
    rcode: int,
    ttl: int,
    stale: int,
    stored: str,
    source: str,
    node: str,
    why: str = "",
    ede: int = NO_EDE,
    route: str = "",
    scope: int = NO_SCOPE,
    seen: str = "",
) -> str:
    """How an entry came about, in words."""
    text = f"rcode={rcode_text(rcode)} ttl={ttl} stale={stale} stored={stored} from={source} node={node}"
    text += f" route={route}" if route else ""
    text += f" why={why}" if why else ""
    text += f" scope={scope}" if scope != NO_SCOPE else ""
    text += f" ede={ede}" if ede != NO_EDE else ""
    return text + (f" seen={seen}" if seen else "")
