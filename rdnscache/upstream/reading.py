"""Decides whether a message from the server's address and port with the right ID is a reply to our question. Pure.

It must repeat our question (RFC 5452 section 9.1); without a question only an error is accepted.
"""

from __future__ import annotations

from rdnscache.dns.question import section, subnet
from rdnscache.dns.splice import repeats
from rdnscache.dns.subnet import fits
from rdnscache.dns.wire import HEADER_SIZE, Reply, parse_error, parse_reply


def read_reply(key: bytes, data: bytes) -> Reply | None:
    """The reply in `data` to the question of `key`; None if it is for another question, or cannot be read."""
    reply = parse_reply(data)
    if reply is None:
        reply = parse_error(key, data)
    if reply is None or not repeats(reply.wire, reply.end, section(key)):
        return None
    network = subnet(key)
    return reply if not network or not reply.subnet or fits(network, reply.subnet) else None


def about(key: bytes, data: bytes) -> bool:
    """Whether an unreadable message seems to be about the question of `key`, and so is not a forger's guess."""
    if len(data) < HEADER_SIZE or not data[2] & 0x80:
        return False
    if data[4] == 0 and data[5] == 0:
        return True
    asked = section(key)
    end = HEADER_SIZE + len(asked)
    told = data[HEADER_SIZE:end]
    names = told[: len(asked) - 4]
    return asked.startswith(names.lower() + told[len(names) :])
