"""The policy of a node from its files: read and checked by the supervisor, shared by all workers it forks."""

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from rdnscache.answer_rules import special_names
from rdnscache.config import Config
from rdnscache.errors import ConfigError
from rdnscache.files import open_regular, read_text, unpacked
from rdnscache.policy import list_text, name_table
from rdnscache.policy.blocking import BlockAnswer
from rdnscache.policy.hosts_text import read_hosts
from rdnscache.policy.list_text import Item, Remark
from rdnscache.policy.local_record import LocalRecord, ZoneTextError
from rdnscache.policy.local_zones import LocalZones
from rdnscache.policy.name_table import KEY_OCTETS, NameTable
from rdnscache.policy.rpz import ResponsePolicy, RpzZone
from rdnscache.policy.rpz_rules import Rule, RuleReader
from rdnscache.policy.rpz_table import RpzTable, build_rpz
from rdnscache.policy.rpz_text import RPZ, ZoneRecord, is_zone, read_rpz
from rdnscache.policy.rules import FILE_SHIFT, Policy
from rdnscache.policy.special_names import SpecialNames
from rdnscache.policy.zone_text import read_zone_text

#: Remarks on a list that are kept; octets read at a time.
MOST_REMARKS, CHUNK = 20, 1 << 16


@dataclass(slots=True)
class ListFacts:
    """What was found in a list: how many names, and what was not understood."""

    kind: str
    file: str
    names: int = 0
    refused: int = 0
    remarks: list[Remark] = field(default_factory=list)

    def note(self, found: Item | Rule | Remark) -> bool:
        """Count what was read; whether it is a name or a rule."""
        if not isinstance(found, Remark):
            self.names += 1
            return True
        self.refused += found.lines
        if len(self.remarks) < MOST_REMARKS:
            self.remarks.append(found)
        return False


@dataclass(frozen=True, slots=True)
class PolicyData:
    """What all workers share. `table` is memory that a fork does not copy."""

    local: LocalZones | None = None
    #: The files of local records, by number.
    files: tuple[str, ...] = ()
    table: mmap.mmap | None = None
    lists: tuple[ListFacts, ...] = ()
    answer: str = "nxdomain"
    #: Tells whether anything has changed.
    digest: str = ""
    special: SpecialNames | None = None
    #: Response policy zones by what they are called, each in memory that a fork does not copy.
    rpz: tuple[tuple[str, mmap.mmap], ...] = ()

    def policy(self) -> Policy | None:
        """For one worker; None where there is nothing to decide."""
        if self.local is None and self.table is None and self.special is None and not self.rpz:
            return None
        rpz = ResponsePolicy([RpzZone(name, RpzTable(memoryview(octets))) for name, octets in self.rpz])
        table = NameTable(memoryview(self.table)) if self.table is not None else None
        files, lists = map(_names, (self.files, [each.file for each in self.lists]))
        return Policy(self.local, files, table, lists, BlockAnswer.parse(self.answer), self.special, rpz)


def _names(files: Sequence[str]) -> list[str]:
    """As they stand in the origins of entries, whose words are between spaces."""
    return ["_".join(Path(file).name.split()) for file in files]


def load_policy(config: Config) -> PolicyData:
    """Raises ConfigError with file, line and reason for local records; what a list has in it is never a reason."""
    digest = hashlib.blake2b(digest_size=16)
    files = (*config.records, *config.hosts)
    local = _local_zones(config, files, digest) if files else None
    lists = [ListFacts("block", file) for file in config.block] + [ListFacts("pass", file) for file in config.pass_]
    table = _mapped(name_table.build(_items(lists, digest), os.urandom(KEY_OCTETS))) if lists else None
    zones = []
    for source in (each for each in config.rpz if each.server is None):
        facts = ListFacts(RPZ, source.file)
        zones.append((source.name, _mapped(build_rpz(read_rpz_file(facts, digest), os.urandom(KEY_OCTETS), facts))))
        lists.append(facts)
    digest.update(config.block_answer.encode())
    special = special_names(config, local)
    return PolicyData(local, files, table, tuple(lists), config.block_answer, digest.hexdigest(), special, tuple(zones))


def _mapped(octets: bytes) -> mmap.mmap:
    """Memory that a fork does not copy."""
    memory = mmap.mmap(-1, len(octets))
    memory[:] = octets
    return memory


def _local_zones(config: Config, files: Sequence[str], digest: hashlib.blake2b) -> LocalZones:
    """The records of all files together; each line has the number of its file above it (see `Policy`)."""
    found: list[LocalRecord] = []
    for number, file in enumerate(files):
        try:
            text = read_text(file)
            records = read_zone_text(text) if number < len(config.records) else read_hosts(text)
        except ZoneTextError as error:
            raise ConfigError(f"{file}, {error}") from None
        except ValueError as error:
            raise ConfigError(f"{file} {error}") from None
        digest.update(text.encode())
        found += [replace(record, line=number << FILE_SHIFT | record.line) for record in records]
    try:
        return LocalZones(found)
    except ZoneTextError as error:
        file, line = files[error.line >> FILE_SHIFT], error.line & (1 << FILE_SHIFT) - 1
        raise ConfigError(f"{file}, line {line}: {error.reason}") from None


def _items(lists: list[ListFacts], digest: hashlib.blake2b) -> Iterator[tuple[int, Item]]:
    """What all lists have, each with the number of its list; what is noticed on the way is put down there."""
    for number, facts in enumerate(lists):
        for item in read_list_file(facts):
            digest.update(item.name + bytes((item.below, item.passes)))
            yield number, item


def read_list_file(facts: ListFacts) -> Iterator[Item]:
    """The items of a list. Raises ConfigError when the file cannot be read."""
    for found in list_text.read_list(_chunks(facts.file), passes=facts.kind == "pass"):
        if facts.note(found) and isinstance(found, Item):
            yield found


def check_file(facts: ListFacts) -> None:
    """Read a list or a zone to its end, and find out which it is."""
    chunks = _chunks(facts.file)
    head = next(chunks, b"")
    facts.kind = RPZ if is_zone(head) else "block"
    if facts.kind == RPZ:
        for found in RuleReader().rules(read_rpz(chain([head], chunks))):
            facts.note(found)
        return
    for item in list_text.read_list(chain([head], chunks)):
        facts.note(item)


def read_rpz_file(facts: ListFacts, digest: hashlib.blake2b) -> Iterator[ZoneRecord | Remark]:
    """The records of a response policy zone. Raises ConfigError when the file cannot be read."""
    for found in read_rpz(_chunks(facts.file)):
        if isinstance(found, ZoneRecord):
            digest.update(found.name + found.rtype.to_bytes(2, "big") + found.ttl.to_bytes(4, "big") + found.rdata)
        yield found


def _chunks(path: str) -> Iterator[bytes]:
    """What is in a file, unpacked. Raises ConfigError when it cannot be read."""
    try:
        with open_regular(path) as file:
            yield from iter(partial(unpacked(file).read, CHUNK), b"")
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{path} {error}") from None
