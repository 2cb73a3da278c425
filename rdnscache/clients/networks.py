"""Sets of client addresses: which are answered, which are not limited, which may speak for others.

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

#: Clients answered by default: an open resolver can be abused for attacks (RFC 5358, BCP 140).
DEFAULT_ALLOW = ("loopback", "private")

_MAPPED = IPv6Network("::ffff:0:0/96")

#: Most groups of clients.
MOST_GROUPS = 250
#: The value for addresses outside the set; and in the coarse table, for two octets that do not decide.
_OUTSIDE, _MIXED = 254, 255


def parse_networks(text: str) -> tuple[Network, ...]:
    """The networks that a text means, several for a name. Raises ValueError with one sentence."""
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
    """The addresses in some networks, except those in others. Of overlapping networks the one with the longer prefix
    decides, and of equal ones the exception; so a network can be excluded from another, and a part of it included
    again.

    Addresses inside may belong to `groups`, each a number up to MOST_GROUPS with its networks. Again the longer prefix
    decides, and of equal ones the later group; an address in no group has the number 0.

    The first two octets of an address nearly always decide, in a table with all 65,536 values; networks with prefixes
    longer than 16 bits are found by bisection in a sorted list.
    """

    __slots__ = ("_coarse4", "_coarse6", "_numbers4", "_numbers6", "_starts4", "_starts6")

    def __init__(
        self, texts: Iterable[str], but_not: Iterable[str] = (), groups: Iterable[tuple[int, Iterable[str]]] = ()
    ) -> None:
        rules = [(network, 0) for text in texts for network in parse_networks(text)]
        rules += [(network, _OUTSIDE) for text in but_not for network in parse_networks(text)]
        parts = [(network, number) for number, each in groups for text in each for network in parse_networks(text)]
        starts, numbers = _laid_over(rules, parts, 32)
        self._starts4 = [start.to_bytes(4, "big") for start in starts]
        self._numbers4 = bytes(numbers)
        self._coarse4 = bytes(_coarse(starts, numbers, 16))
        starts, numbers = _laid_over(rules, parts, 128)
        self._starts6 = [start.to_bytes(16, "big") for start in starts]
        self._numbers6 = bytes(numbers)
        coarse = _coarse(starts, numbers, 112)
        coarse[0] = _MIXED  # the IPv4-mapped addresses are there
        self._coarse6 = bytes(coarse)

    def holds(self, address: bytes) -> bool:
        """Whether an address of 4 or 16 octets is in the set; false for any other size."""
        return self.group(address) >= 0

    def group(self, address: bytes) -> int:
        """The number of the group that an address is in; -1 when it is not in the set."""
        size = len(address)
        if size == 4:
            number = self._coarse4[address[0] << 8 | address[1]]
        elif size == 16:
            number = self._coarse6[address[0] << 8 | address[1]]
        else:
            return -1
        if number < _OUTSIDE:
            return number
        return -1 if number == _OUTSIDE else self._exact_group(address)

    def _exact_group(self, address: bytes) -> int:
        """The same for addresses whose first two octets do not decide."""
        if len(address) == 4:
            number = self._numbers4[bisect_right(self._starts4, address) - 1]
        elif address.startswith(b"\0\0\0\0\0\0\0\0\0\0\xff\xff"):
            return self.group(address[12:])
        else:
            number = self._numbers6[bisect_right(self._starts6, address) - 1]
        return number if number < _OUTSIDE else -1


def client_prefix(source: bytes) -> bytes:
    """What counts as one client where a resource is shared: the /24 or /56 of an address of 4 or 16 octets.

    A whole network is one client, since a host can have many addresses. Each loopback address is a client of its own.
    """
    if len(source) == 16 and source.startswith(b"\0\0\0\0\0\0\0\0\0\0\xff\xff"):
        source = source[12:]
    if len(source) == 4:
        return source if source[0] == 127 else source[:3]
    return source[:7]


_Rules = list[tuple[Network, int]]


def _laid_over(rules: _Rules, parts: _Rules, bits: int) -> tuple[list[int], list[int]]:
    """The address range in pieces: the start of each, and its group, or _OUTSIDE."""
    starts, inside = _pieces(rules, bits, _OUTSIDE)
    if not parts:
        return starts, inside
    part_starts, groups = _pieces(parts, bits, 0)
    both = sorted({*starts, *part_starts})
    numbers = []
    for start in both:
        allowed = inside[bisect_right(starts, start) - 1] != _OUTSIDE
        numbers.append(groups[bisect_right(part_starts, start) - 1] if allowed else _OUTSIDE)
    return both, numbers


def _pieces(rules: _Rules, bits: int, usual: int) -> tuple[list[int], list[int]]:
    """The address range in pieces: the start of each, and its number. Of equal starts the last counts."""
    starts, numbers = [0], [usual]
    #: The networks around the current position, the widest first: the end of each, and its number.
    around = [(1 << bits, usual)]
    mine = [(network, number) for network, number in rules if network.max_prefixlen == bits]
    # networks either contain each other or are disjoint: the wider one comes first; of equal ones the last counts
    for network, number in sorted(mine, key=lambda rule: (rule[0].network_address, rule[0].prefixlen)):
        start = int(network.network_address)
        _leave(around, start, starts, numbers)
        starts.append(start)
        numbers.append(number)
        around.append((start + network.num_addresses, number))
    _leave(around, (1 << bits) - 1, starts, numbers)
    return starts, numbers


def _leave(around: list[tuple[int, int]], place: int, starts: list[int], numbers: list[int]) -> None:
    """Add a piece after each network that ends at or before a position, with the number of the network around it."""
    while around[-1][0] <= place:
        end, _ = around.pop()
        starts.append(end)
        numbers.append(around[-1][1])


def _coarse(starts: list[int], numbers: list[int], shift: int) -> bytearray:
    """For each value of the first two octets: its number, or _MIXED."""
    table = bytearray()
    for start, end, number in zip(starts, [*starts[1:], 1 << shift + 16], numbers, strict=True):
        table += bytes((number,)) * ((end - 1 >> shift) + 1 - len(table))
        if start & (1 << shift) - 1:
            table[start >> shift] = _MIXED
    return table
