"""Reads hosts files, the format of /etc/hosts with an address and its names per line, into local records."""

from __future__ import annotations

from collections.abc import Iterator

from rdnscache.dns.names import parse_name, shown
from rdnscache.dns.wire import AAAA, A
from rdnscache.policy.local_record import MOST_RECORDS, LocalRecord, ZoneTextError
from rdnscache.policy.odd_text import ipv4, ipv6

#: TTL of records from a hosts file in seconds.
HOSTS_TTL = 3600
_PTR = 12
_IN_ADDR, _IP6 = b"\x07in-addr\x04arpa\0", b"\x03ip6\x04arpa\0"


def read_hosts(text: str, ttl: int = HOSTS_TTL) -> list[LocalRecord]:
    """The records of a hosts file: A or AAAA for each name, single labels as they are, and a PTR for each address.

    The PTR leads to the first name in the first line with the address, as the look-up in such a file does.
    Raises ZoneTextError at the first mistake. The text's size is for the caller to limit.
    """
    return list(hosts_records(text, ttl))


def hosts_records(text: str, ttl: int = HOSTS_TTL) -> Iterator[LocalRecord]:
    """The same as an iterator, for callers that need to do other work in between."""
    known: set[bytes] = set()
    count = 0
    for number, line in _lines(text):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            address = ipv6(words[0]) if ":" in words[0] else ipv4(words[0])
            names = [_name(word) for word in words[1:]]
            if not names:
                raise ValueError("an address without a name")
            count += len(names) + (address not in known)
            if count > MOST_RECORDS:
                raise ValueError(f"there are more than {MOST_RECORDS} records")
        except ValueError as error:
            raise ZoneTextError(number, str(error)) from None
        for name in names:
            yield LocalRecord(name, A if len(address) == 4 else AAAA, ttl, address, number)
        if address not in known:
            known.add(address)
            yield LocalRecord(reverse_name(address), _PTR, ttl, names[0], number)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers: what ends with a newline, and with nothing else that Python takes for one."""
    at, number = 0, 0
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        number += 1
        yield number, text[at:end]
        at = end + 1


def _name(text: str) -> bytes:
    name = parse_name(text)
    if name == b"\0":
        raise ValueError("the root has no address")
    if name.startswith(b"\1*"):
        raise ValueError(f"{shown(text)} is a wildcard, which a hosts file does not have")
    return name


def reverse_name(address: bytes) -> bytes:
    """The name whose PTR says which host has an address (RFC 1035 section 3.5, RFC 3596 section 2.5)."""
    if len(address) == 4:
        labels = [str(octet).encode() for octet in reversed(address)]
        return b"".join(bytes((len(label),)) + label for label in labels) + _IN_ADDR
    return b"".join(b"\1" + digit.encode() for digit in reversed(address.hex())) + _IP6
