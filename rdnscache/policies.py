"""The policy of a node from its files: read and checked by the supervisor, shared by all workers it forks."""

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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
from rdnscache.policy.name_table import NameTable
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

    def policy(self) -> Policy | None:
        """For one worker; None where there is nothing to decide."""
        if self.local is None and self.table is None and self.special is None:
            return None
        table = NameTable(memoryview(self.table)) if self.table is not None else None
        files, lists = map(_names, (self.files, [each.file for each in self.lists]))
        return Policy(self.local, files, table, lists, BlockAnswer.parse(self.answer), self.special)


def _names(files: Sequence[str]) -> list[str]:
    """As they stand in the origins of entries, whose words are between spaces."""
    return ["_".join(Path(file).name.split()) for file in files]


def load_policy(config: Config) -> PolicyData:
    """Raises ConfigError with file, line and reason for local records; what a list has in it is never a reason."""
    digest = hashlib.blake2b(digest_size=16)
    files = (*config.records, *config.hosts)
    local = _local_zones(config, files, digest) if files else None
    lists = [ListFacts("block", file) for file in config.block] + [ListFacts("pass", file) for file in config.pass_]
    table = None
    if lists:
        octets = name_table.build(_items(lists, digest), os.urandom(16))
        table = mmap.mmap(-1, max(len(octets), 1))
        table[: len(octets)] = octets
    digest.update(config.block_answer.encode())
    special = special_names(config, local)
    return PolicyData(local, files, table, tuple(lists), config.block_answer, digest.hexdigest(), special)


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
    try:
        with open_regular(facts.file) as file:
            chunks = iter(partial(unpacked(file).read, CHUNK), b"")
            for found in list_text.read_list(chunks, passes=facts.kind == "pass"):
                if isinstance(found, Remark):
                    facts.refused += found.lines
                    if len(facts.remarks) < MOST_REMARKS:
                        facts.remarks.append(found)
                else:
                    facts.names += 1
                    yield found
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{facts.file} cannot be read: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{facts.file} {error}") from None
