"""Addresses in answers: extracts them, and tells private ones from those on the internet."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from rdnscache.dns.entry import Entry
from rdnscache.dns.wire import AAAA, A

SVCB, HTTPS = 64, 65
#: Parameters of SVCB and HTTPS (RFC 9460 section 14.3.2).
MANDATORY, IPV4_HINT, IPV6_HINT = 0, 4, 6

#: This host or network, private, shared, loopback, link-local, and broadcast.
_PRIVATE4 = ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
             "192.168.0.0/16", "255.255.255.255/32")  # fmt: skip
#: Loopback and IPv4-compatible, a network's own translator (RFC 8215), unique local, link-local, site-local.
_PRIVATE6 = ("::/96", "64:ff9b:1::/48", "fc00::/7", "fe80::/10", "fec0::/10")
#: Offset of the IPv4 address in IPv6 addresses that contain one: mapped, translated (RFC 7915, RFC 6052), 6to4.
_EMBEDDED = (("::ffff:0:0/96", 12), ("::ffff:0:0:0/96", 12), ("64:ff9b::/96", 12), ("2002::/16", 2))


def masks(*networks: str) -> tuple[tuple[int, int], ...]:
    """Each network as a number and its mask."""
    found = map(ipaddress.ip_network, networks)
    return tuple((int(each.network_address), int(each.netmask)) for each in found)


_NETWORKS4, _NETWORKS6 = masks(*_PRIVATE4), masks(*_PRIVATE6)
_EMBEDDING = tuple((*masks(network)[0], at) for network, at in _EMBEDDED)


def within(address: bytes, networks: tuple[tuple[int, int], ...]) -> bool:
    """Whether an address is in one of the networks, all of its family."""
    number = int.from_bytes(address)
    return any(number & mask == network for network, mask in networks)


def is_private(address: bytes) -> bool:
    """Whether an address of 4 or 16 octets has no meaning, or another one, on the internet."""
    if len(address) == 4:
        return within(address, _NETWORKS4)
    if within(address, _NETWORKS6):
        return True
    number = int.from_bytes(address)
    return any(number & mask == network and is_private(address[at : at + 4]) for network, mask, at in _EMBEDDING)


def addresses_in(entry: Entry) -> Iterator[bytes]:
    """The addresses in the answer section: of A and AAAA, and the hints of SVCB and HTTPS."""
    tail = entry.tail
    for rtype, at, size in offsets(entry):
        if (rtype == A and size == 4) or (rtype == AAAA and size == 16):
            yield tail[at : at + size]
        elif rtype in (SVCB, HTTPS):
            yield from _hints(tail[at : at + size])


def offsets(entry: Entry) -> Iterator[tuple[int, int, int]]:
    """The type of each record in the answer section, and where its data are in the tail: offset and size."""
    tail, ttls = entry.tail, entry.ttls
    for index in range(0, 2 * entry.ancount, 2):
        at = ttls[index] << 8 | ttls[index + 1]
        yield tail[at - 4] << 8 | tail[at - 3], at + 6, tail[at + 4] << 8 | tail[at + 5]


def _hints(rdata: bytes) -> Iterator[bytes]:
    for key, value in parameters(rdata)[1]:
        size = {IPV4_HINT: 4, IPV6_HINT: 16}.get(key, 0)
        if size:
            yield from (value[at : at + size] for at in range(0, len(value), size))


def parameters(rdata: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """The fields of SVCB or HTTPS before the parameters, and the parameters (RFC 9460 section 2.2)."""
    at = 2
    while rdata[at]:
        at += rdata[at] + 1
    start = at = at + 1
    found = []
    while at < len(rdata):
        size = rdata[at + 2] << 8 | rdata[at + 3]
        found.append((rdata[at] << 8 | rdata[at + 1], rdata[at + 4 : at + 4 + size]))
        at += 4 + size
    return rdata[:start], found


def without_hints(rdata: bytes, dropped: frozenset[int]) -> bytes:
    """The data of SVCB or HTTPS without these parameters, which are removed from `mandatory` as well."""
    head, found = parameters(rdata)
    out = bytearray(head)
    for key, value in found:
        if key == MANDATORY:
            pairs = (value[at : at + 2] for at in range(0, len(value), 2))
            value = b"".join(pair for pair in pairs if int.from_bytes(pair) not in dropped)
            if not value:
                continue
        if key not in dropped:
            out += key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
    return bytes(out)
