"""Questions. Everything is kept and found under a question's key, which is one bytes object:

    the name on the wire in lower case | type, 2 octets | class, 2 octets | variant, 1 octet

All but the variant is the question section of a query (RFC 1035 section 4.1.2). The variant tells questions apart whose
replies differ although name, type and class are the same.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Bits of the variant: the client wants DNSSEC records (RFC 3225); upstreams are not to check them (RFC 4035 section
#: 3.2.2).
VARIANT_DO, VARIANT_CD = 1, 2
#: Stands for the type in the key of what holds for all types of a name: that it does not exist (RFC 2308 section 5).
ANY_TYPE = 0


def question_key(name: bytes, number: int, class_number: int, bits: int) -> bytes:
    """The key of a name in lower case, a type, a class and a variant."""
    return name + bytes((number >> 8, number & 0xFF, class_number >> 8, class_number & 0xFF, bits))


def qname(key: bytes) -> bytes:
    """The name, on the wire and in lower case."""
    return key[:-5]


def qtype(key: bytes) -> int:
    return key[-5] << 8 | key[-4]


def qclass(key: bytes) -> int:
    return key[-3] << 8 | key[-2]


def variant(key: bytes) -> int:
    return key[-1]


def section(key: bytes) -> bytes:
    """The question section of a message that asks it."""
    return key[:-1]


def name_key(key: bytes) -> bytes:
    """The key under which the NXDOMAIN of a question's name is kept."""
    return key[:-5] + b"\0\0" + key[-3:]


def questions(name: bytes, types: Iterable[int], class_number: int) -> list[bytes]:
    """The keys of all questions about a name of these types; and of its NXDOMAIN, which is of every type."""
    variants = (0, VARIANT_DO, VARIANT_CD, VARIANT_DO | VARIANT_CD)
    return [question_key(name, number, class_number, each) for number in (ANY_TYPE, *types) for each in variants]
