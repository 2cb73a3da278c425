"""The names asked for, and their answers, which follow from the names, so that a wrong answer is noticed at once.

`c3x17.cold.chaos`: the label before the last is the kind of the name. Names under `ver` have a version in their
answers, which the upstream can raise; after a flush no older one may be seen.
"""

from __future__ import annotations

import struct
from zlib import crc32

from rdnscache.dns.wire import TRACE_OPTION

#: TTL of answers of each kind in seconds, and the delay of the upstream for them.
TTL = {"hot": 300, "cold": 300, "nx": 60, "short": 2, "ver": 300, "probe": 300}
DELAY = {"probe": 0.05}
USUAL_DELAY = 0.005
KINDS = tuple(TTL)
NXDOMAIN = 3
#: TTL of a stale record (RFC 8767 section 4).
STALE_TTL = 30
_HEADER = struct.Struct("!HHHHHH")
_TRACE = struct.pack("!BHHIHHH", 0, 41, 1232, 0, 4, TRACE_OPTION, 0)
_SOA = b"\0\0" + struct.pack("!5I", 1, 3600, 600, 86400, 60)


def wire(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"


def kind_of(name: str) -> str:
    return name.split(".")[-2]


def query(ident: int, name: str, traced: bool = False) -> bytes:
    """A query; `traced`: with the option that asks a node where its answer comes from."""
    opt = _TRACE if traced else b""
    return _HEADER.pack(ident, 0x0100, 1, 0, 0, bool(opt)) + wire(name) + b"\0\1\0\1" + opt


def note(data: bytes) -> str:
    """The node's text about the source of its answer, if there is any."""
    return data.rpartition(b"layer=")[2].decode("utf-8", "replace") if b"layer=" in data else "no trace"


def asked(data: bytes) -> tuple[str, bytes]:
    """The name in a query, in lower case, and the question as received. Raises ValueError or IndexError."""
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode("ascii").lower())
        at += 1 + data[at]
    return ".".join(labels), data[12 : at + 5]


def reply(data: bytes, version: int) -> bytes:
    """The upstream's reply to a query."""
    name, question = asked(data)
    kind = kind_of(name)
    if kind == "nx" or question[-4:] != b"\0\1\0\1":
        rcode = NXDOMAIN if kind == "nx" else 0
        records = b"\0" + struct.pack("!HHIH", 6, 1, TTL[kind], len(_SOA)) + _SOA
        return data[:2] + struct.pack("!HHHHH", 0x8180 | rcode, 1, 0, 1, 0) + question + records
    record = b"\xc0\x0c\0\1\0\1" + struct.pack("!IH", TTL[kind], 4) + _address(name, version if kind == "ver" else 0)
    return data[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + question + record


def failure(data: bytes) -> bytes:
    """SERVFAIL to a query."""
    return data[:2] + struct.pack("!HHHHH", 0x8182, 1, 0, 0, 0) + asked(data)[1]


def _address(name: str, version: int) -> bytes:
    return struct.pack("!HH", crc32(name.encode()) & 0xFFFF, version & 0xFFFF)


def problem(name: str, data: bytes, floor: int) -> str:
    """What is wrong with a reply for a name whose version must be at least `floor`; empty if nothing is."""
    question = wire(name) + b"\0\1\0\1"
    if data[12 : 12 + len(question)] != question:
        return "answers another question"
    flags, _, answers = struct.unpack_from("!HHH", data, 2)
    kind, rest = kind_of(name), data[12 + len(question) :]
    wanted = NXDOMAIN if kind == "nx" else 0
    if flags & 15 != wanted or answers != (0 if wanted else 1):
        return f"RCODE {flags & 15} with {answers} records"
    if wanted:
        return ""
    ttl = int.from_bytes(rest[6:10], "big")
    if ttl > max(TTL[kind], STALE_TTL):
        return f"TTL {ttl}"
    told = int.from_bytes(rest[14:16], "big") if kind == "ver" else 0
    if rest[12:16] != _address(name, told):
        return f"address {'.'.join(map(str, rest[12:16]))}"
    return f"version {told}, flushed before {floor}" if kind == "ver" and told < floor else ""
