"""Questions and their keys. L1, flights and routes find a question by its key, one bytes object:

    the name on the wire in lower case | type, 2 octets | class, 2 octets | variant, 1 octet

Everything but the variant is the question section of a query (RFC 1035 section 4.1.2). The variant distinguishes
questions whose replies differ although name, type and class are equal. If replies depend on the client, more follows
the name:

    the name | group | subnet | type | class | variant

The group is either the number of a view, 1 octet, for the answers of that view, which are known inside a worker only.
Or it is the digest of a route, 8 octets, for the answers of a view's own upstreams. The subnet is the client's network
(RFC 7871): family, 1 octet, prefix length, 1 octet, address, 16 octets.
"""

from __future__ import annotations

from collections.abc import Iterable

from rdnscache.dns.splice import cut, splice_type, splice_view

#: Bits of the variant: the client wants DNSSEC records (RFC 3225); upstreams must not validate them (RFC 4035 section
#: 3.2.2); the key contains a subnet, the number of a view, or the digest of a view's route.
VARIANT_DO, VARIANT_CD, VARIANT_SUBNET, VARIANT_VIEW, VARIANT_ROUTE = 1, 2, 4, 8, 16
#: Octets of a subnet, and of a route.
SUBNET_SIZE, ROUTE_SIZE = 18, 8
#: The type in the key of an NXDOMAIN, which holds for all types of a name (RFC 2308 section 5).
ANY_TYPE = 0
_ANY_TYPE = ANY_TYPE


def question_key(name: bytes, number: int, class_number: int, bits: int) -> bytes:
    """The key of a name in lower case, a type, a class and a variant."""
    return name + bytes((number >> 8, number & 0xFF, class_number >> 8, class_number & 0xFF, bits))


def qname(key: bytes) -> bytes:
    """The name, on the wire and in lower case."""
    return cut(key, 0, _name_end(key))


def _name_end(key: bytes) -> int:
    bits = key[-1]
    end = len(key) - 5 - (18 if bits & 4 else 0)
    return end - (1 if bits & 8 else 8 if bits & 16 else 0)


def qtype(key: bytes) -> int:
    return key[-5] << 8 | key[-4]


def qclass(key: bytes) -> int:
    return key[-3] << 8 | key[-2]


def variant(key: bytes) -> int:
    return key[-1]


def section(key: bytes) -> bytes:
    """The question section of a query for this key."""
    return key[: _name_end(key)] + key[-5:-1] if key[-1] & 28 else cut(key, 0, len(key) - 1)


def subnet(key: bytes) -> bytes:
    """The network of clients the question is asked for, 18 octets; empty if the key has none."""
    return key[-23:-5] if key[-1] & 4 else b""


def with_subnet(key: bytes, network: bytes) -> bytes:
    """The key of the same question for clients of a network, 18 octets."""
    return key[:-5] + network + key[-5:-1] + bytes((key[-1] | VARIANT_SUBNET,))


def view_number(key: bytes) -> int:
    """The number of the view whose answer it is; -1 for the answer of all clients."""
    return key[_name_end(key)] if key[-1] & 8 else -1


def route_of(key: bytes) -> bytes:
    """The digest of a view's own route; empty for the common one."""
    end = _name_end(key)
    return key[end : end + 8] if key[-1] & 16 else b""


def with_view(key: bytes, number: int) -> bytes:
    """The key of a view's answer to a question; `key` must not have a group."""
    return splice_view(key, _name_end(key), number)


def with_route(key: bytes, digest: bytes) -> bytes:
    """The key of a question to a view's own upstreams; `key` must not have a group."""
    end = _name_end(key)
    return key[:end] + digest + key[end:-1] + bytes((key[-1] | VARIANT_ROUTE,))


def bare_key(key: bytes) -> bytes:
    """The key of the same question for all clients: without view or route."""
    bits = key[-1]
    if not bits & 24:
        return key
    end = _name_end(key)
    return key[:end] + key[end + (1 if bits & 8 else 8) : -1] + bytes((bits & 7,))


def with_type(key: bytes, number: int) -> bytes:
    """The key of the same question for another type."""
    return splice_type(key, number)


def wider_key(key: bytes) -> bytes:
    """The key for a reply that is valid for more than its question.

    That is an NXDOMAIN, for all types of the name; or a reply for clients of one network that is valid for all
    networks.
    """
    if key[-1] & 4:
        return key[:-23] + key[-5:-1] + bytes((key[-1] & 27,))
    return splice_type(key, _ANY_TYPE)


def questions(name: bytes, types: Iterable[int], class_number: int) -> list[bytes]:
    """The keys of all questions about a name with these types, and that of its NXDOMAIN, which covers every type."""
    variants = (0, VARIANT_DO, VARIANT_CD, VARIANT_DO | VARIANT_CD)
    return [question_key(name, number, class_number, each) for number in (ANY_TYPE, *types) for each in variants]
