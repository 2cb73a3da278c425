"""Reading entries from Redis, in the form that `contract` describes, without trusting them; and writing `info`."""

from __future__ import annotations

import re
import sys
from enum import Enum

from rdnscache.dns.entry import Entry
from rdnscache.dns.names import rcode_text
from rdnscache.dns.policy import Limits, holds_for_name
from rdnscache.dns.question import ANY_TYPE, qtype, section, wider_key
from rdnscache.dns.splice import cut, repeats
from rdnscache.dns.wire import NO_EDE, Reply, parse_reply, read_u32

#: The words of `info`: the first, and all from the fifth on, of which there are few. The others are read by hand.
_RCODE = re.compile(rb"rcode=[A-Z0-9]+")
_REST = re.compile(
    rb"(from=[!-~]{1,100} node=[!-~]{1,100}(?: route=[!-~]{1,1100})?(?: why=[a-z]{1,20})?)"
    rb"(?: scope=([0-9]{1,3}))?(?: ede=([0-9]{1,5}))?(?: seen=[0-9]{1,19}-[0-9]{1,19})?"
)
#: The octets of a moment.
_MOMENT = b"0123456789TZ:-"
#: Where an entry's `info` has no `scope`.
NO_SCOPE = -1
_NO_TTL, _ANY_TYPE = 1 << 32, ANY_TYPE
#: The limits of a node that was told none.
LIMITS = Limits()

#: What the first word and the rest were understood as, for those met last.
_rcodes: set[bytes] = set()
_rests: dict[bytes, Rest] = {}
_MANY = 1000


class Rest:
    """What `info` says from its fifth word on."""

    __slots__ = ("ede", "origin", "scope")

    def __init__(self, origin: str, scope: int, ede: int) -> None:
        self.origin = origin
        self.scope = scope
        self.ede = ede


class Told:
    """What `info` says."""

    __slots__ = ("rest", "stale", "ttl")

    def __init__(self, ttl: int, stale: int, rest: Rest) -> None:
        self.ttl = ttl
        self.stale = stale
        self.rest = rest


class Lifetime(Enum):
    """A value in place of a PTTL."""

    #: The entry has just been made: its whole lifetime is left.
    WHOLE = "whole"


_WHOLE = Lifetime.WHOLE


def decode(
    key: bytes,
    info: object,
    wire: object,
    left_ms: object,
    now: float,
    limits: Limits = LIMITS,
    parsed: Reply | None = None,
) -> Entry | None:
    """The entry for a question from its fields in Redis; None if it cannot be used. `parsed`: the parsed wire, if any.

    Checks the form of `info`, that `wire` is a complete reply to exactly this question, and that the time left (its
    PTTL, in ms) is set and not longer than the entry's lifetime. Lifetime and TTLs are brought within the limits.
    """
    if not isinstance(info, bytes) or not isinstance(wire, bytes):
        return None
    told = _read(info)
    reply = parsed or (parse_reply(wire) if told is not None else None)
    if told is None or reply is None or reply.rcode > 15 or not _answers(key, reply):
        return None
    if len(reply.wire) != len(wire):  # nodes store no OPT record, and no octets after the last record
        return None
    ttl, stale = told.ttl, told.stale
    lifetime = (ttl + stale) * 1000
    if left_ms is _WHOLE:
        left = lifetime
    elif isinstance(left_ms, int) and 0 <= left_ms <= lifetime:
        left = left_ms
    else:
        return None
    least, most = _ttl_range(reply.wire, reply.ttls)
    if least < ttl:  # a TTL would fall below zero
        return None
    ttl_max = limits.ttl_max
    if most > ttl_max:
        reply.wire = _capped(reply, ttl_max)
    stored = now - (lifetime - left) / 1000
    entry = Entry(key, reply, stored, min(ttl, ttl_max), min(stale, limits.stale), told.rest.origin)
    if told.rest.scope != NO_SCOPE:
        entry.scope = told.rest.scope
    if told.rest.ede != NO_EDE:
        entry.ede = told.rest.ede
    return entry


def _read(info: bytes) -> Told | None:
    """What `info` says; None where it has not the form."""
    words = info.split(b" ", 4)
    if len(words) < 5:
        return None
    rcode, moment = words[0], words[3]
    if rcode not in _rcodes and not _is_rcode(rcode):
        return None
    ttl, stale = _number(words[1], b"ttl="), _number(words[2], b"stale=")
    if ttl < 0 or stale < 0 or not _is_moment(moment):
        return None
    rest = _rests.get(words[4])
    if rest is None:
        rest = _read_rest(words[4])
    return Told(ttl, stale, rest) if rest is not None else None


def _is_rcode(word: bytes) -> bool:
    if _RCODE.fullmatch(word) is None:
        return False
    if len(_rcodes) < _MANY and len(word) < 20:
        _rcodes.add(word)
    return True


def _number(word: bytes, what: bytes) -> int:
    """The number of up to seven digits behind a name; -1 where there is none."""
    start, end = len(what), len(word)
    if not start < end <= start + 7 or not word.startswith(what):
        return -1
    value = 0
    for index in range(start, end):
        digit = word[index] - 48
        if not 0 <= digit <= 9:
            return -1
        value = value * 10 + digit
    return value


def _is_moment(word: bytes) -> bool:
    """Whether it says when the entry was stored."""
    return 7 < len(word) <= 37 and word.startswith(b"stored=") and not cut(word, 7, len(word)).strip(_MOMENT)


def _read_rest(words: bytes) -> Rest | None:
    """What the words from the fifth on say."""
    match = _REST.fullmatch(words)
    if match is None:
        return None
    scope = min(int(match[2]), 128) if match[2] is not None else NO_SCOPE
    ede = min(int(match[3]), 0xFFFF) if match[3] is not None else NO_EDE
    if len(_rests) >= _MANY:
        _rests.clear()
    rest = _rests[words] = Rest(sys.intern(match[1].decode("ascii")), scope, ede)
    return rest


def mistimed(info: object, left_ms: object) -> bool:
    """Whether an entry that `decode` refused has the wrong time left only, as after a fill between two reads."""
    told = _read(info) if isinstance(info, bytes) else None
    if told is None or not isinstance(left_ms, int):
        return False
    return left_ms != -1 and not 0 <= left_ms <= (told.ttl + told.stale) * 1000


def _answers(key: bytes, reply: Reply) -> bool:
    """Whether a reply is for the question of a key; if that is a name's NXDOMAIN, for any type."""
    if qtype(key) != _ANY_TYPE:
        return repeats(reply.wire, reply.end, section(key))
    return holds_for_name(reply) and wider_key(reply.question() + b"\0") == section(key) + b"\0"


def read_wake(message: bytes) -> tuple[bytes, bytes, bytes, bytes | None]:
    """The key, `info`, `wire` and `mac` of a wake message; the last is None if it has none."""
    name, _, rest = message.partition(b"\n")
    info, _, wire = rest.partition(b"\n")
    mac = None
    if wire[:1] != b"\0":
        mac, _, wire = wire.partition(b"\n")
    return name, info, wire, mac


def _ttl_range(wire: bytes, ttls: bytes) -> tuple[int, int]:
    """The smallest and the largest TTL of the records."""
    least, most = _NO_TTL, 0
    for index in range(0, len(ttls), 2):
        ttl = read_u32(wire, ttls[index] << 8 | ttls[index + 1])
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
    """The field `info` of an entry; see `contract`."""
    text = f"rcode={rcode_text(rcode)} ttl={ttl} stale={stale} stored={stored} from={source} node={node}"
    text += f" route={route}" if route else ""
    text += f" why={why}" if why else ""
    text += f" scope={scope}" if scope != NO_SCOPE else ""
    text += f" ede={ede}" if ede != NO_EDE else ""
    return text + (f" seen={seen}" if seen else "")
