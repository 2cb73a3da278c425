"""Sets of client addresses: who is answered, who is not limited, who may speak for others.

A set is written as networks (`10.0.0.0/8`, `2001:db8::/32`), addresses (`192.0.2.1`, `::1`) and these names:

- `loopback`: 127.0.0.0/8 (RFC 1122 section 3.2.1.3) and ::1 (RFC 4291 section 2.5.3);
- `private`: 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 (RFC 1918 section 3), 100.64.0.0/10 (shared, RFC 6598),
  169.254.0.0/16 (link-local, RFC 3927), fc00::/7 (unique local, RFC 4193) and fe80::/10 (link-local, RFC 4291
  section 2.5.6);
- `any`: everybody.

An IPv4-mapped IPv6 address (::ffff:192.0.2.1, RFC 4291 section 2.5.5.2) is the IPv4 address in it, and nothing else.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

_NAMED = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10",
    ),
    "any": ("0.0.0.0/0", "::/0"),
}  # fmt: skip

#: Who is answered unless told otherwise: a resolver open to everybody is a weapon (RFC 5358, BCP 140).
DEFAULT_ALLOW = ("loopback", "private")

_MAPPED = IPv6Network("::ffff:0:0/96")

#: In a coarse table: networks of both kinds begin with these two octets.
_MIXED = 2


def parse_networks(text: str) -> tuple[Network, ...]:
    """The networks that a text stands for, several for a name. Raises ValueError with one sentence."""
    if text in _NAMED:
        return tuple(ip_network(each) for each in _NAMED[text])
    host, slash, size = text.partition("/")
    try:
        address = ip_address(host)
        length = int(size) if slash else address.max_prefixlen
        if "%" in host or (slash and not (size.isascii() and size.isdigit())):
            raise ValueError
    except ValueError:
        raise ValueError(f"{text!r} is neither a network, an address, nor one of {', '.join(_NAMED)}") from None
    if length > address.max_prefixlen:
        raise ValueError(f"{text!r} has a prefix longer than {address.max_prefixlen} bits")
    network = ip_network((address, length), strict=False)
    if network.network_address != address:
        raise ValueError(f"{text!r} has bits set behind its prefix: did you mean {str(network)!r}?")
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return (IPv4Network((int(address) & 0xFFFFFFFF, length - 96)),)
    return (network,)


class Networks:
    """The addresses in some networks but not in others. Where they overlap the longer prefix decides, and the
    exception where both are as long; so a network can be taken out of another, and a part of it put in again.

    Two octets of the address decide nearly always, by a table of all 65536 there are; networks with prefixes longer
    than 16 bits are found by bisection in a sorted list.
    """

    __slots__ = ("_coarse4", "_coarse6", "_inside4", "_inside6", "_starts4", "_starts6")

    def __init__(self, texts: Iterable[str], but_not: Iterable[str] = ()) -> None:
        rules = [(network, True) for text in texts for network in parse_networks(text)]
        rules += [(network, False) for text in but_not for network in parse_networks(text)]
        starts, inside = _pieces([rule for rule in rules if rule[0].version == 4], 32)
        self._starts4 = [start.to_bytes(4, "big") for start in starts]
        self._inside4 = bytes(inside)
        self._coarse4 = bytes(_coarse(starts, inside, 16))
        starts, inside = _pieces([rule for rule in rules if rule[0].version == 6], 128)
        self._starts6 = [start.to_bytes(16, "big") for start in starts]
        self._inside6 = bytes(inside)
        coarse = _coarse(starts, inside, 112)
        coarse[0] = _MIXED  # the IPv4-mapped addresses are there
        self._coarse6 = bytes(coarse)

    def holds(self, address: bytes) -> bool:
        """Whether an address of 4 or 16 octets is in the set; one of another size is in none."""
        size = len(address)
        if size == 4:
            verdict = self._coarse4[address[0] << 8 | address[1]]
        elif size == 16:
            verdict = self._coarse6[address[0] << 8 | address[1]]
        else:
            return False
        return verdict == 1 if verdict != _MIXED else self._holds_exactly(address)

    def _holds_exactly(self, address: bytes) -> bool:
        """The same for addresses that two octets do not decide."""
        if len(address) == 4:
            return self._inside4[bisect_right(self._starts4, address) - 1] == 1
        if address.startswith(b"\0\0\0\0\0\0\0\0\0\0\xff\xff"):
            return self.holds(address[12:])
        return self._inside6[bisect_right(self._starts6, address) - 1] == 1


def client_prefix(source: bytes) -> bytes:
    """What stands for the client at an address of 4 or 16 octets where clients share something: its /24 or /56.

    A whole network is one client, or a host with many addresses would be many. On this machine each address is one.
    """
    if len(source) == 16 and source.startswith(b"\0\0\0\0\0\0\0\0\0\0\xff\xff"):
        source = source[12:]
    if len(source) == 4:
        return source if source[0] == 127 else source[:3]
    return source[:7]


def _pieces(rules: list[tuple[Network, bool]], bits: int) -> tuple[list[int], list[bool]]:
    """The address range in pieces: where each starts, and whether it is inside. Of equal starts the last counts."""
    starts, inside = [0], [False]
    #: The networks around the place we are at, the widest first: where each ends, and what it says.
    around = [(1 << bits, False)]
    # prefixes never cross: what starts first and is wider holds the rest; an exception comes behind its equal
    for network, value in sorted(rules, key=lambda rule: (rule[0].network_address, rule[0].prefixlen, not rule[1])):
        start = int(network.network_address)
        _leave(around, start, starts, inside)
        starts.append(start)
        inside.append(value)
        around.append((start + network.num_addresses, value))
    _leave(around, (1 << bits) - 1, starts, inside)
    return starts, inside


def _leave(around: list[tuple[int, bool]], place: int, starts: list[int], inside: list[bool]) -> None:
    """A piece behind each network that ends at or before a place: what the one around it says."""
    while around[-1][0] <= place:
        end, _ = around.pop()
        starts.append(end)
        inside.append(around[-1][1])


def _coarse(starts: list[int], inside: list[bool], shift: int) -> bytearray:
    """For each two octets that an address may begin with: 1 inside, 0 outside, or _MIXED."""
    table = bytearray()
    for start, end, value in zip(starts, [*starts[1:], 1 << shift + 16], inside, strict=True):
        table += bytes((value,)) * ((end - 1 >> shift) + 1 - len(table))
        if start & (1 << shift) - 1:
            table[start >> shift] = _MIXED
    return table
