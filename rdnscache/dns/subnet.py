"""Client subnets (ECS): networks of clients in keys, in the EDNS option of RFC 7871, and as text.

In a key a subnet has 18 octets: family, prefix length, and the address, with zeros after the prefix.
"""

from __future__ import annotations

import ipaddress

#: The EDNS option (RFC 7871 section 6), and the families of addresses.
SUBNET_OPTION = 8
IPV4, IPV6 = 1, 2
_BITS = {IPV4: 32, IPV6: 128}
#: Source prefix length 0: clients that opt out, and queries that carry no network (RFC 7871 section 7.1.2).
NOBODY = bytes((IPV4,)) + bytes(17)


def of_address(address: bytes, prefix4: int, prefix6: int) -> bytes:
    """The subnet of a client's address (4 or 16 octets), with the prefix length of its family."""
    if len(address) == 4:
        return _cut(IPV4, address, prefix4)
    return _cut(IPV6, address, prefix6)


def read_option(data: bytes, prefix4: int, prefix6: int) -> bytes | None:
    """The subnet in the data of a query's option, cut to the prefix length of its family; None if it is malformed.

    An unknown family gives `NOBODY`.
    """
    if len(data) < 4:
        return None
    family, length, scope = data[0] << 8 | data[1], data[2], data[3]
    if family not in _BITS:
        return NOBODY
    address = data[4:]
    if (
        scope
        or length > _BITS[family]
        or len(address) != (length + 7) // 8
        or _cut(family, address, length)[2:] != (address.ljust(16, b"\0"))
    ):
        return None
    length = min(length, prefix4 if family == IPV4 else prefix6)
    return _cut(family, address, length) if length else NOBODY


def _cut(family: int, address: bytes, length: int) -> bytes:
    """A subnet with zeros after the prefix (RFC 7871 section 6)."""
    octets = bytearray(address[: (length + 7) // 8])
    if length % 8 and octets:
        octets[-1] &= 0xFF << 8 - length % 8 & 0xFF
    return bytes((family, length)) + bytes(octets).ljust(16, b"\0")


def option(network: bytes) -> bytes:
    """The option for a query to an upstream, with its code and size; the scope is 0."""
    data = option_data(network)
    return b"\0\x08" + len(data).to_bytes(2, "big") + data


def option_data(network: bytes) -> bytes:
    return b"\0" + network[:2] + b"\0" + network[2 : 2 + (network[1] + 7) // 8]


def fits(network: bytes, data: bytes) -> bool:
    """Whether the option `data` of a reply repeats the subnet that was sent (RFC 7871 section 7.3)."""
    sent = option_data(network)
    return data[:3] == sent[:3] and data[4:] == sent[4:]


def scope_of(data: bytes) -> int:
    """The scope prefix length in the option `data` of a reply; 0, which means all networks, without an option."""
    return data[3] if len(data) > 3 else 0


def is_nobody(network: bytes) -> bool:
    """Whether the source prefix length is 0: such a reply says nothing about networks (RFC 7871 section 7.3.1)."""
    return network[1] == 0


def subnet_text(network: bytes) -> str:
    """`192.0.2.0/24`."""
    kind = ipaddress.IPv4Address if network[0] == IPV4 else ipaddress.IPv6Address
    return f"{kind(network[2:6] if network[0] == IPV4 else network[2:])}/{network[1]}"


def parse_subnet(text: str) -> bytes:
    """The subnet for a text; ValueError unless it is exactly what `subnet_text` writes."""
    found = ipaddress.ip_network(text)
    family = IPV4 if found.version == 4 else IPV6
    network = _cut(family, found.network_address.packed, found.prefixlen)
    if subnet_text(network) != text:
        raise ValueError(f"{text!r} is not in canonical form")
    return network
