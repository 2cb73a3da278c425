"""The decisions about a question before any server is asked, and about an answer before a client gets it. Pure.

The order is: local records, exceptions from blocking, response policy zones, blocked names, special-use names.
"""

from __future__ import annotations

from collections.abc import Sequence

from rdnscache.dns.entry import Entry
from rdnscache.dns.question import qclass, qname, qtype, section
from rdnscache.dns.records import Names, plain_data, plain_name, records_of
from rdnscache.dns.wire import AAAA, CNAME, HEADER_SIZE, IN, A, Reply, parse_reply
from rdnscache.dns.zones import Zones
from rdnscache.policy.answers import AnswerTerms, Refinement, refine
from rdnscache.policy.blocking import EDE_BLOCKED, BlockAnswer
from rdnscache.policy.dns64 import Dns64
from rdnscache.policy.lists import Found, Lists
from rdnscache.policy.local_zones import LocalZones
from rdnscache.policy.special_names import SpecialNames
from rdnscache.policy.verdict import TRUNCATED, Verdict

#: See `Policy`.
FILE_SHIFT = 24


class Policy:
    """`files` has the names of those with local records, by number.

    The line of a local record has the number of its file above its lowest `FILE_SHIFT` bits.
    """

    def __init__(
        self,
        local: LocalZones | None,
        files: Sequence[str],
        lists: Lists,
        answer: BlockAnswer,
        special: SpecialNames | None = None,
        terms: Zones[AnswerTerms] | None = None,
    ) -> None:
        self._local = local
        self._files = files
        #: Replaced when lists change.
        self.lists = lists
        self._answer = answer
        self._special = special
        #: How the names end about which that may say something, and whether it does about those of one label.
        self._ends = special.ends if special is not None else ()
        self._single = special is None or special.single
        #: The rules for answers, by zone.
        self._terms = terms

    def __bool__(self) -> bool:
        """Whether there is anything to decide."""
        return self._special is not None or self._local is not None or self.changes_answers()

    def changes_answers(self) -> bool:
        """Whether answers may be changed."""
        return self._terms is not None or bool(self.lists)

    def of(self, key: bytes) -> Verdict | None:
        """The decision about a question; None when it has to be asked as usual."""
        if qclass(key) != IN or not self._may_decide(key):
            return None
        if self._local is not None:
            found = self._local.answer(key)
            if found is not None:
                file, line = self._files[found.line >> FILE_SHIFT], found.line & (1 << FILE_SHIFT) - 1
                return Verdict(found.wire, f"local={file}:{line}", target=found.target)
        verdict = self._listed(key, qname(key))
        if verdict is None or verdict.action == TRUNCATED:  # the name may be one that must not be asked elsewhere
            verdict = self._of_special_use(key) or verdict
        return verdict

    def _may_decide(self, key: bytes) -> bool:
        """Whether it is worth a closer look: most questions are about no name of special use, and there is no list."""
        if self._local is not None or self.lists:
            return True
        name = qname(key)
        return name.endswith(self._ends) or (not self._single and name[0] + 2 >= len(name))

    def of_answer(self, key: bytes, tail: bytes, ancount: int) -> Verdict | None:
        """The decision about an answer. Its aliases may lead to a blocked name, such as an advertiser's."""
        lists, rpz = self.lists, self.lists.rpz
        if not lists or not (ancount or rpz) or qclass(key) != IN or self._passes(qname(key)):
            return None
        names, addresses = _told(key, tail, ancount, rpz.about_addresses) if ancount else ([], [])
        if rpz:
            followed = [qname(key), *(name for name in names if not self._passes(name))]
            found = rpz.of_answer(followed, addresses)
            if found is not None:
                return rpz.verdict(key, found)
        return next(filter(None, (self._blocked(key, name) for name in names)), None)

    def of_client(self, key: bytes, source: bytes) -> tuple[Verdict | None, int]:
        """The decision about a question because of its client, at an address of 4 or 16 octets.

        Also returns the index of the zone that lets the client pass, or -1: see `PolicyData.before`.
        """
        rpz = self.lists.rpz
        found = rpz.of_client(qname(key), source) if qclass(key) == IN else None
        if found is None or self._passes(qname(key)) or (self._local and self._local.answer(key) is not None):
            return None, -1
        return rpz.verdict(key, found), found.zone.place if found.passes else -1

    def refined(self, entry: Entry) -> Refinement | None:
        """The changed form of an answer that is not blocked; None when it is not changed."""
        terms = self.terms_of(entry.key)
        return refine(entry, terms) if terms is not None else None

    def dns64(self, entry: Entry) -> Dns64 | None:
        """The DNS64 that applies to an answer without IPv6 addresses; None when it is not changed."""
        terms = self.terms_of(entry.key)
        found = terms.dns64 if terms is not None else None
        return found if found is not None and found.lacks(entry) else None

    def completes(self, key: bytes) -> bool:
        """Whether answering a question may need other questions: for DNS64, or for aliases in local records."""
        if self.lists.rpz.aliases:
            return True
        terms = self.terms_of(key) if qtype(key) == AAAA else None
        return terms is not None and terms.dns64 is not None

    def terms_of(self, key: bytes) -> AnswerTerms | None:
        """The rules for the answer to a question."""
        return self._terms.of(key) if self._terms is not None and qclass(key) == IN else None

    def _of_special_use(self, key: bytes) -> Verdict | None:
        found = self._special.of(key) if self._special is not None else None
        return Verdict(found.wire, found.why, target=found.target) if found is not None else None

    def _passes(self, name: bytes) -> bool:
        found = self.lists.find(name)
        return found is not None and found.passes

    def _listed(self, key: bytes, name: bytes) -> Verdict | None:
        found, rpz = self.lists.find(name), self.lists.rpz
        if rpz and (found is None or not (found.passes or found.ordered)):
            hit, waits = rpz.of_name(name)
            if hit is not None:
                return None if waits else rpz.verdict(key, hit)
        return self._by_list(key, found)

    def _blocked(self, key: bytes, name: bytes) -> Verdict | None:
        return self._by_list(key, self.lists.find(name))

    def _by_list(self, key: bytes, found: Found | None) -> Verdict | None:
        return None if found is None or found.passes else Verdict(self._answer.wire(key), found.why, EDE_BLOCKED)


def no_policy() -> Policy:
    """One that decides nothing."""
    return Policy(None, (), Lists(), BlockAnswer())


def _told(key: bytes, tail: bytes, ancount: int, addressed: bool) -> tuple[list[bytes], list[bytes]]:
    """The names that the aliases of an answer lead to, on the wire and in lower case; its addresses if `addressed`."""
    head = bytes((0, 0, 0x81, 0x80, 0, 1)) + ancount.to_bytes(2, "big") + bytes(4)
    reply = parse_reply(head + section(key) + tail)
    if reply is None or not (CNAME in reply.types or (addressed and (A in reply.types or AAAA in reply.types))):
        return [], []
    names = Names(reply.wire)
    targets, addresses = [], []
    for record in records_of(reply, names, 0, reply.ancount, reply.end):
        if record.rtype == CNAME:
            targets.append(plain_name(names, names.read(record.ttl_at + 6)))
        elif addressed and record.rtype in (A, AAAA):
            addresses.append(reply.wire[record.ttl_at + 6 : record.end])
    return targets, addresses


def joined(first: Reply, rest: Reply) -> bytes:
    """The stored bytes of a reply with both answers: `rest` answers for the target of an alias in `first`.

    Proofs of both are kept; AD is set if both have it.
    """
    wire = bytearray(first.wire[: first.authority])
    if not rest.authentic:
        wire[3] &= 0xDF
    wire[3] = wire[3] & 0xF0 | rest.rcode & 0x0F
    counts = first.ancount + rest.ancount, rest.nscount + first.nscount
    wire[6:HEADER_SIZE] = b"".join(each.to_bytes(2, "big") for each in counts) + b"\0\0"
    found = _plain_records(rest, 0, rest.ancount + rest.nscount, rest.end)
    return bytes(wire + found + _plain_records(first, first.ancount, first.nscount, first.authority))


def _plain_records(reply: Reply, begin: int, count: int, start: int) -> bytes:
    """Records of a reply without compression; their owners, and names that may be compressed, in lower case."""
    names, out = Names(reply.wire), bytearray()
    for record in records_of(reply, names, begin, count, start):
        out += plain_name(names, record.owner) + reply.wire[record.ttl_at - 4 : record.ttl_at + 4]
        rdata = plain_data(reply.wire, names, record.rtype, record.rclass, record.ttl_at + 6, record.end)
        out += len(rdata).to_bytes(2, "big") + rdata
    return bytes(out)
