"""DNS64 (RFC 6147): IPv6 addresses made of IPv4 ones (RFC 6052), for networks whose translator reaches those."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from rdnscache.dns.entry import Entry
from rdnscache.dns.question import VARIANT_CD, VARIANT_DO, qtype, variant
from rdnscache.dns.wire import AAAA, NOERROR, SERVFAIL, TCP_SIZE, A, Reply, read_u32
from rdnscache.policy.addresses import is_private, masks, offsets, within
from rdnscache.policy.draft import Draft
from rdnscache.policy.plain_records import plain_records, records_plainly, reply_of

#: The prefix for everybody (RFC 6052 section 2.1), and how many bits others may have (section 2.2).
WELL_KNOWN, LENGTHS = "64:ff9b::/96", (32, 40, 48, 56, 64, 96)
#: IPv6 addresses that are treated as absent (RFC 6147 section 5.1.4).
DEFAULT_EXCLUDED = ("::ffff:0:0/96",)
#: Longest TTL of synthesized addresses in seconds when there is no SOA (section 5.1.7).
TTL_WITHOUT_SOA = 600
#: In the origin of an answer: checked and left unchanged, since there is no IPv4 address either.
NONE = "dns64=none"
#: IPv4 addresses that are never translated, whatever the prefix: of the host, link-local, multicast.
_NEVER = masks("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")
#: Octets up to which another address is added to a message.
_ROOM = TCP_SIZE - 300
#: The octet between two halves of an address, which is zero (RFC 6052 section 2.2).
_GAP = 8
_ROOT, _NIBBLES = b"\3ip6\4arpa\0", 32


def read_prefix(text: str) -> str:
    """A prefix as Python writes it. Raises ValueError."""
    try:
        network = ipaddress.IPv6Network(text)
    except ValueError as error:
        raise ValueError(f"{text[:60]!r} is not an IPv6 prefix: {error}"[:200]) from None
    if network.prefixlen not in LENGTHS:
        raise ValueError(f"{network} has {network.prefixlen} bits, and a prefix of DNS64 32, 40, 48, 56, 64 or 96")
    if network.network_address.packed[_GAP]:
        raise ValueError(f"{network}: bits 64 to 71 of a prefix of DNS64 are zero (RFC 6052 section 2.2)")
    return str(network)


@dataclass(frozen=True, slots=True)
class Dns64:
    """`prefix` are 16 octets, the places of an IPv4 address zero; `excluded` networks as `masks` makes them."""

    prefix: bytes
    length: int
    excluded: tuple[tuple[int, int], ...] = masks(*DEFAULT_EXCLUDED)

    @classmethod
    def of(cls, prefix: str, excluded: Iterable[str] = DEFAULT_EXCLUDED) -> Dns64:
        network = ipaddress.IPv6Network(prefix)
        return cls(network.network_address.packed, network.prefixlen, masks(*excluded))

    def __str__(self) -> str:
        return f"{ipaddress.IPv6Address(self.prefix)}/{self.length}"

    def _places(self) -> list[int]:
        return [at for at in range(self.length // 8, 16) if at != _GAP or self.length == 96][:4]

    def embed(self, address: bytes) -> bytes:
        """The IPv6 address that stands for one of IPv4."""
        out = bytearray(self.prefix)
        for at, octet in zip(self._places(), address, strict=True):
            out[at] = octet
        return bytes(out)

    def extract(self, address: bytes) -> bytes | None:
        """The IPv4 address that an IPv6 address stands for, if it does."""
        found = bytes(address[at] for at in self._places())
        return found if self.embed(found) == address else None

    def serves(self, address: bytes) -> bool:
        """Whether an IPv4 address may be translated: the well-known prefix is for addresses on the internet (section
        3.1)."""
        if within(address, _NEVER):
            return False
        return not (self.length == 96 and str(self) == WELL_KNOWN and is_private(address))

    def reversed(self, name: bytes) -> bytes | None:
        """The name in in-addr.arpa that the name of an address below the prefix in ip6.arpa stands for."""
        if len(name) != 2 * _NIBBLES + len(_ROOT) or not name.endswith(_ROOT):
            return None
        digits = name[1 : 2 * _NIBBLES : 2]
        try:
            address = self.extract(bytes.fromhex(digits[::-1].decode("ascii")))
        except ValueError:
            return None
        if address is None or name[: 2 * _NIBBLES : 2] != b"\1" * _NIBBLES or not self.serves(address):
            return None
        labels = (str(octet).encode() for octet in reversed(address))
        return b"".join(bytes((len(label),)) + label for label in labels) + b"\7in-addr\4arpa\0"

    def lacks(self, entry: Entry) -> bool:
        """Whether IPv4 addresses have to be asked for: there are no IPv6 addresses, or only excluded ones.

        A failure about the name counts as none (section 5.1.2). Clients that set DO and CD synthesize for themselves
        (5.5).
        """
        if not self._minds(entry) or entry.origin.endswith(NONE):
            return False
        if entry.rcode == SERVFAIL:
            return entry.origin.endswith((" why=said", " why=silent"))
        return entry.rcode == NOERROR and all(map(self._is_excluded, _addresses(entry)))

    def trimmed(self, entry: Entry) -> bytes | None:
        """The stored bytes of an answer without addresses that are excluded, where others are left; None: as it is."""
        found = _addresses(entry) if self._minds(entry) else []
        if not any(map(self._is_excluded, found)) or all(map(self._is_excluded, found)):
            return None
        draft = Draft(entry.key)
        for record in plain_records(entry):
            if record.covered != AAAA and not (record.rtype == AAAA and self._is_excluded(record.rdata)):
                draft.add(record.owner, record.rtype, record.ttl, record.rdata)
        return draft.stored(entry.key)

    def made(self, entry: Entry, reply: Reply, age: int) -> bytes | None:
        """The stored bytes of an answer made of `reply`, which has the IPv4 addresses of the same name; None without.

        `entry` says that there are no others, and was kept for `age` seconds: made addresses hold no longer.
        """
        draft, most, found = Draft(entry.key), max(_negative_ttl(entry) - age, 0), False
        for record in records_plainly(reply):
            if record.rtype == A and self.serves(record.rdata) and len(draft.wire) < _ROOM:
                found = True
                draft.add(record.owner, AAAA, min(record.ttl, most), self.embed(record.rdata))
            elif record.rtype != A and record.covered != A:
                draft.add(record.owner, record.rtype, record.ttl, record.rdata)
        return draft.stored(entry.key) if found and len(draft.wire) <= TCP_SIZE else None

    def _minds(self, entry: Entry) -> bool:
        both = VARIANT_DO | VARIANT_CD
        return qtype(entry.key) == AAAA and variant(entry.key) & both != both

    def _is_excluded(self, address: bytes) -> bool:
        return within(address, self.excluded)


def _addresses(entry: Entry) -> list[bytes]:
    return [entry.tail[at : at + size] for rtype, at, size in offsets(entry) if rtype == AAAA and size == 16]


def _negative_ttl(entry: Entry) -> int:
    """For how many seconds the absence of IPv6 addresses may be cached (RFC 2308 section 5)."""
    reply = reply_of(entry)
    if reply is None or not reply.soa_ttl_at:
        return TTL_WITHOUT_SOA
    return min(read_u32(reply.wire, reply.soa_ttl_at) + entry.aged, reply.soa_minimum)
