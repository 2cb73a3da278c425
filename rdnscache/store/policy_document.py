"""The part of the contract about the policy for names: the cluster's orders, and the versions of lists it uses.

    rdns:1:{rdns:1:control}:policy         STRING  orders and lists: JSON, followed by a newline and a MAC if the
                                                   nodes have a secret; in the slot of the control events
    rdns:1:{list <check>}:<number>         STRING  part of a compiled list (256 KiB), from 0 on
    rdns:1:{fetch <digest of a list>}      STRING  lock: a node has checked this list; once it expires, the next may

    {"version": 1796000000000, "paused_until": 0, "blocked": ["ads.example."], "passed": [],
     "lists": {"block https://lists.example/ads.txt": {"digest": "…", "check": "…", "modified": 1796000000.0,
                                                       "names": 2000, "octets": 48000}}}

`version` is in milliseconds since 1970, and only grows. `paused_until` is in seconds since 1970; -1 means until
somebody resumes. `digest` is that of a list's text, `check` that of the compiled list: 16 octets of BLAKE2b in
hexadecimal. The MAC is made as for an entry (see `contract`), with `policy` as `info` and the JSON as `wire`. After a
change `{"event": "policy"}` is announced, and a worker confirms it once it applies the document and all its lists.
No connection in here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rdnscache.dns.names import parse_own_name
from rdnscache.policy.directives import MOST_DIRECTED, Directives
from rdnscache.policy.list_version import Version
from rdnscache.store.contract import Names
from rdnscache.store.foreign_json import read_object
from rdnscache.store.script import Script
from rdnscache.store.seal import Seal

#: Maximum octets of the value, characters of the name of a list, and number of lists.
LONGEST_DOCUMENT, LONGEST_WORD, MOST_LISTS = 512 << 10, 2000, 250
#: Signed in place of an entry's `info`.
_KIND = b"policy"
#: A pause without an end; seconds of the longest pause that has one.
UNTIL_RESUMED, LONGEST_PAUSE = -1.0, 366 * 86400

#: KEYS document; ARGV its new value, and its old one. Returns 1 if it had the old value and was replaced.
REPLACE = Script(
    b"""
local found = redis.pcall('GET', KEYS[1])
if type(found) == 'table' then found = '' end
if (found or '') ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""
)


def policy_key(names: Names) -> bytes:
    return f"{names.steering}{{{names.control.decode()}}}:policy".encode()


def part_key(names: Names, check: str, number: int) -> str:
    return f"{names.steering}{{list {check}}}:{number}"


def fetch_key(names: Names, word: str) -> str:
    return f"{names.steering}{{fetch {hashlib.blake2b(word.encode(), digest_size=16).hexdigest()}}}"


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """`version` is the time of its creation in milliseconds since 1970, or larger: it only grows."""

    version: int = 0
    #: Blocking is paused until then, in seconds since 1970; 0: it is not.
    paused_until: float = 0.0
    #: Names in presentation form with a final dot.
    blocked: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    #: Lists by their common name on all nodes, such as `block https://lists.example/ads.txt`.
    lists: Mapping[str, Version] = field(default_factory=dict)

    def text(self) -> bytes:
        told = {
            "version": self.version,
            "paused_until": self.paused_until,
            "blocked": list(self.blocked),
            "passed": list(self.passed),
            "lists": {word: version.as_json() for word, version in self.lists.items()},
        }
        return json.dumps(told).encode()

    def directives(self, wall: float) -> Directives:
        blocked, passed = (frozenset(map(parse_own_name, names)) for names in (self.blocked, self.passed))
        return Directives(blocked, passed, self.paused(wall))

    def paused(self, wall: float) -> bool:
        return self.paused_until == UNTIL_RESUMED or wall < self.paused_until

    def next(self, wall: float, **changes: Any) -> PolicyDocument:
        """The next version, with changes. Raises ValueError if a limit is exceeded."""
        found = replace(self, version=max(self.version + 1, int(wall * 1000)), **changes)
        if len(found.blocked) + len(found.passed) > MOST_DIRECTED:
            raise ValueError(f"more than {MOST_DIRECTED} names are blocked or passed by orders: put them into a list")
        if len(found.lists) > MOST_LISTS:
            raise ValueError(f"the cluster has more than {MOST_LISTS} lists")
        return found


def sealed(document: PolicyDocument, key: bytes, seal: Seal | None) -> bytes:
    """The value to be stored in Redis."""
    text = document.text()
    return text if seal is None else text + b"\n" + seal.sign(key, _KIND, text)


def read_document(raw: bytes, key: bytes, seal: Seal | None) -> PolicyDocument:
    """The document in a value of Redis. Raises ValueError if it is malformed, or has no valid MAC but needs one."""
    text, newline, mac = raw[: LONGEST_DOCUMENT + 1].partition(b"\n")
    if seal is not None:
        problem = seal.unsigned(key, _KIND, text, mac if newline else None)
        if problem:
            raise ValueError(problem)
    told = read_object(text, LONGEST_DOCUMENT)
    try:
        blocked, passed = (tuple(map(str, told[word][:MOST_DIRECTED])) for word in ("blocked", "passed"))
        for name in (*blocked, *passed):
            parse_own_name(name)
        lists = {str(word)[:LONGEST_WORD]: Version.read(version) for word, version in told["lists"].items()}
        version, until = int(told["version"]), float(told["paused_until"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a field is missing or has the wrong type: {error}") from None
    return PolicyDocument(version, until, blocked, passed, lists)
