"""The compiled form of a list: facts about it and its table of names, in one piece of memory.

    magic, 8 octets | octets of the facts, 4 | facts, JSON | zeros up to a multiple of 8 | the table

It is built once for the cluster, and mapped into the memory of all workers of a node.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from rdnscache.policy import list_text, name_table
from rdnscache.policy.list_text import Item, Remark
from rdnscache.policy.name_table import Gathered, NameTable
from rdnscache.policy.rpz_rules import Rule
from rdnscache.policy.rpz_table import RpzTable, build_rpz
from rdnscache.policy.rpz_text import RPZ, read_rpz

#: Most remarks about a list that are kept.
MOST_REMARKS = 20
#: Most octets of the facts, and of the whole.
LONGEST_FACTS, MOST_OCTETS = 64 << 10, 1 << 30
_HEAD = Struct("<8sI")
_MAGIC = b"rdnslst1"
#: Changes whenever the same text gives a different table, so that a version does not use a table made by another one.
FORMAT = b"3"
BLOCK, PASS = "block", "pass"

#: A table for look-ups.
Table = NameTable | RpzTable


@dataclass(slots=True)
class ListFacts:
    """Facts about a list: the number of names, and lines not understood. `file` is a file or a URL."""

    kind: str
    file: str
    names: int = 0
    refused: int = 0
    remarks: list[Remark] = field(default_factory=list)

    def note(self, found: Rule | Remark) -> bool:
        """Count what was read; whether it is a rule."""
        if not isinstance(found, Remark):
            self.names += 1
            return True
        self.refused += found.lines
        if len(self.remarks) < MOST_REMARKS:
            self.remarks.append(found)
        return False


def _read_names(chunks: Iterable[bytes], facts: ListFacts, first_line: int = 1) -> Iterator[Item]:
    """The names of a list; remarks on the way are recorded."""
    for found in list_text.read_list(chunks, facts.kind == PASS, first_line):
        if isinstance(found, Remark):
            facts.note(found)
        else:
            facts.names += len(found)
            yield from found


def compile_list(chunks: Iterable[bytes], facts: ListFacts, key: bytes, lined: bool = True) -> bytes:
    """A list from its text; takes seconds for a million names. `key`: see `name_table.build`."""
    if facts.kind == RPZ:
        table = build_rpz(read_rpz(chunks), key, facts, lined)
    else:
        table = name_table.build([(0, _read_names(chunks, facts))], key)
    return with_facts(facts, table)


class Portion(NamedTuple):
    """Some lines of a list, read and gathered, and what was found in them."""

    facts: ListFacts
    gathered: Gathered


def gather_portion(text: bytes, kind: str, first_line: int, key: bytes) -> Portion:
    """Lines of a list of names, of which the first has this number. They can be read in another process."""
    facts = ListFacts(kind, "")
    return Portion(facts, name_table.gather([(0, _read_names([text], facts, first_line))], key))


def join_portions(portions: Sequence[Portion], facts: ListFacts, key: bytes) -> bytes:
    """A list from all of its lines."""
    for portion in portions:
        facts.names += portion.facts.names
        facts.refused += portion.facts.refused
        facts.remarks += portion.facts.remarks[: MOST_REMARKS - len(facts.remarks)]
    return with_facts(facts, name_table.put_together([portion.gathered for portion in portions], key))


def with_facts(facts: ListFacts, table: bytes) -> bytes:
    remarks = [list(remark) for remark in facts.remarks]
    told = {"kind": facts.kind, "file": facts.file, "names": facts.names, "refused": facts.refused, "remarks": remarks}
    text = json.dumps(told).encode()
    head = _HEAD.pack(_MAGIC, len(text)) + text
    return head + bytes(-len(head) % 8) + table


def read_compiled(data: bytes | memoryview) -> tuple[ListFacts, Table]:
    """The facts and the table, which is not copied. ValueError when it is not a compiled list, or is truncated."""
    view = memoryview(data).cast("B")
    if len(view) < _HEAD.size:
        raise ValueError("it is not a compiled list")
    magic, size = _HEAD.unpack_from(view)
    end = _HEAD.size + size
    if magic != _MAGIC or size > LONGEST_FACTS or end > len(view):
        raise ValueError("it is not a compiled list")
    try:
        told = json.loads(bytes(view[_HEAD.size : end]))
        remarks = [Remark(int(line), str(reason), int(lines)) for line, reason, lines in told["remarks"]]
        kind, file = str(told["kind"]), str(told["file"])
        facts = ListFacts(kind, file, int(told["names"]), int(told["refused"]), remarks[:MOST_REMARKS])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("the facts of the list cannot be read") from None
    rest = view[end + -end % 8 :]
    return facts, RpzTable(rest) if kind == RPZ else NameTable(rest)
