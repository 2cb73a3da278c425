"""The records of an answer, each by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rdnscache.dns.entry import Entry
from rdnscache.dns.question import section
from rdnscache.dns.records import Names, plain_data, plain_name, records_of
from rdnscache.dns.wire import Reply, parse_reply

_RRSIG = 46


@dataclass(frozen=True, slots=True)
class PlainRecord:
    """A record of an answer section, its names in lower case and not compressed."""

    owner: bytes
    rtype: int
    ttl: int
    rdata: bytes

    @property
    def covered(self) -> int:
        """The type that a signature is about; -1 of all else."""
        return int.from_bytes(self.rdata[:2]) if self.rtype == _RRSIG else -1


def reply_of(entry: Entry) -> Reply | None:
    """An entry as the message it was made of."""
    counts = b"".join(count.to_bytes(2, "big") for count in (1, entry.ancount, entry.nscount, entry.arcount))
    return parse_reply(bytes((0, 0, 0x81, 0x80 | entry.rcode)) + counts + section(entry.key) + entry.tail)


def plain_records(entry: Entry) -> Iterator[PlainRecord]:
    """The records of its answer section."""
    reply = reply_of(entry)
    return records_plainly(reply) if reply is not None else iter(())


def records_plainly(reply: Reply) -> Iterator[PlainRecord]:
    """The records of a reply's answer section."""
    wire, names = reply.wire, Names(reply.wire)
    for record in records_of(reply, names, 0, reply.ancount, reply.end):
        at = record.ttl_at
        rdata = plain_data(wire, names, record.rtype, record.rclass, at + 6, record.end)
        yield PlainRecord(plain_name(names, record.owner), record.rtype, int.from_bytes(wire[at : at + 4]), rdata)
