"""Random letter case in the name of a question, and its removal from the reply (draft-vixie-dnsext-dns0x20).

Servers repeat the question with its letter case, so a forger has to guess that as well. It is not kept: the reply is
read as if the question had been sent in lower case.
"""

from __future__ import annotations

from collections.abc import Iterator

from rdnscache.dns.question import section
from rdnscache.dns.records import names_of
from rdnscache.dns.wire import HEADER_SIZE, Reply, parse_reply

#: Maximum number of labels of a reply that are lowered, which takes 5 ms; the rest keeps its case.
_MOST_LABELS = 7000


def respelled(key: bytes, chance: bytes) -> bytes:
    """The question section of `key` with random letter case: a bit in the same octet of `chance` decides for each."""
    out = bytearray(section(key))
    for at in range(len(out) - 4):
        if 0x61 <= out[at] <= 0x7A:  # the sizes of labels are below that
            out[at] ^= chance[at] & 0x20
    return bytes(out)


def restored(data: bytes, asked: bytes, key: bytes) -> bytes:
    """The reply `data` to the question section `asked`, which it repeats, as if that had been sent in lower case.

    Labels that the server copied from it are lowered as well: in owners, and in those names of the data that DNSSEC
    signs in lower case (RFC 4034 section 6.2, RFC 6840 section 5.1).
    """
    rest = data[HEADER_SIZE + len(asked) :]
    data = data[:HEADER_SIZE] + section(key) + rest
    labels, at = [], 0
    while asked[at]:
        end = at + 1 + asked[at]
        label = asked[at:end]
        if label in rest and label != label.lower():
            labels.append(label)
        at = end
    reply = parse_reply(data) if labels else None
    return data if reply is None else _lowered(reply, data, labels)


def _lowered(reply: Reply, data: bytes, labels: list[bytes]) -> bytes:
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
    """The offset of each owner, and of each name in the data that may be compressed."""
    wire, ttls, start = reply.wire, reply.ttls, reply.end
    for index in range(0, len(ttls), 2):
        at = ttls[index] << 8 | ttls[index + 1]
        yield start
        rtype, rclass = wire[at - 4] << 8 | wire[at - 3], wire[at - 2] << 8 | wire[at - 1]
        start = at + 6 + (wire[at + 4] << 8 | wire[at + 5])
        for name, _ in names_of(wire, rtype, rclass, at + 6, start):
            yield name
