"""The letter case of a question's name: made random, and taken out of the reply again (draft-vixie-dnsext-dns0x20).

Servers repeat the question as it came, and whoever forges a reply has to guess the case as well. Nothing of it is kept:
a reply is read as if the question had been in lower case.
"""

from __future__ import annotations

from collections.abc import Iterator

from rdnscache.dns.question import section
from rdnscache.dns.records import names_of
from rdnscache.dns.wire import HEADER_SIZE, Reply, parse_reply

#: The most labels of a reply that are looked at, which takes 5 ms; in what comes behind, the case stays.
_MOST_LABELS = 7000


def respelled(key: bytes, chance: bytes) -> bytes:
    """The question section of `key` with each letter of its name in either case: an octet of `chance` decides each."""
    out = bytearray(section(key))
    for at in range(len(out) - 4):
        if 0x61 <= out[at] <= 0x7A:  # a label's size is less
            out[at] ^= chance[at] & 0x20
    return bytes(out)


def restored(data: bytes, asked: bytes, key: bytes) -> bytes:
    """The reply to a question asked as `asked`, which it repeats, as if that had been in lower case.

    Names that repeat it once more, in whole or in part, are in lower case as well: owners, and in the data those that
    DNSSEC signs in lower case (RFC 4034 section 6.2, RFC 6840 section 5.1).
    """
    end = HEADER_SIZE + len(asked)
    rest = data[end:]
    data = data[:HEADER_SIZE] + section(key) + rest
    if rest == rest.lower():
        return data
    labels = {label for label in _labels(asked) if label != label.lower() and label in rest}
    if not labels:
        return data
    reply = parse_reply(data)
    return data if reply is None else _lowered(reply, data, labels)


def _labels(asked: bytes) -> Iterator[bytes]:
    """Each label of the name that a question section begins with, behind its size."""
    at = 0
    while asked[at]:
        end = at + 1 + asked[at]
        yield asked[at:end]
        at = end


def _lowered(reply: Reply, data: bytes, labels: set[bytes]) -> bytes:
    out = bytearray(data)
    left = _MOST_LABELS
    for at in _names(reply):
        while 0 < data[at] < 64:
            end = at + 1 + data[at]
            if data[at:end] in labels:
                out[at:end] = data[at:end].lower()
            at = end
            left -= 1
        if left <= 0:
            break
    return bytes(out)


def _names(reply: Reply) -> Iterator[int]:
    """Where each owner begins, and each name in the data that may be compressed."""
    wire, ttls, start = reply.wire, reply.ttls, reply.end
    for index in range(0, len(ttls), 2):
        at = ttls[index] << 8 | ttls[index + 1]
        yield start
        rtype, rclass = wire[at - 4] << 8 | wire[at - 3], wire[at - 2] << 8 | wire[at - 1]
        start = at + 6 + (wire[at + 4] << 8 | wire[at + 5])
        for name, _ in names_of(wire, rtype, rclass, at + 6, start):
            yield name
