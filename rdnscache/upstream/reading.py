"""What comes back from the address and port that was asked, with the right ID: a reply to our question, or not.

Pure. What is believed is little: the question must be ours (RFC 5452 section 9.1), and without one only an error is.
"""

from __future__ import annotations

from rdnscache.dns.question import section, subnet
from rdnscache.dns.splice import repeats
from rdnscache.dns.subnet import fits
from rdnscache.dns.wire import HEADER_SIZE, Reply, parse_error, parse_reply


def read_reply(key: bytes, data: bytes) -> Reply | None:
    """The reply in `data` to the question of `key`; None when it is to another question, or cannot be read."""
    reply = parse_reply(data)
    if reply is None:
        reply = parse_error(key, data)
    if reply is None or not repeats(reply.wire, reply.end, section(key)):
        return None
    network = subnet(key)
    return reply if not network or not reply.subnet or fits(network, reply.subnet) else None


def about(key: bytes, data: bytes) -> bool:
    """Whether what cannot be read is about the question of `key`, as far as can be seen: then it is no guess."""
    if len(data) < HEADER_SIZE or not data[2] & 0x80:
        return False
    if data[4] == 0 and data[5] == 0:
        return True
    asked = section(key)
    end = HEADER_SIZE + len(asked)
    told = data[HEADER_SIZE:end]
    names = told[: len(asked) - 4]
    return asked.startswith(names.lower() + told[len(names) :])
