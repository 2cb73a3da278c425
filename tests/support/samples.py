"""An entry as nodes store it."""

from __future__ import annotations

import dns.message
import dns.rrset

from rdnscache.dns import policy
from rdnscache.dns.wire import parse_reply
from rdnscache.store.decoding import info_text

KEY = b"\3www\7example\3com\0\0\1\0\1\0"
INFO = info_text(0, 300, 3600, "2026-11-23T07:00:00Z", "192.0.2.53", "n1").encode()


def stored_wire(ttl: int = 300) -> bytes:
    """A reply as `settle` stores it."""
    message = dns.message.make_response(dns.message.make_query("WWW.example.com.", "A"))
    message.answer.append(dns.rrset.from_text("www.example.com.", ttl, "IN", "A", "192.0.2.1"))
    reply = parse_reply(message.to_wire())
    assert reply is not None
    return policy.settle(KEY, reply, policy.Limits())[0]


WIRE = stored_wire()
