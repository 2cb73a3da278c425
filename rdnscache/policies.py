"""The policy of a node as its configuration describes it: local records, which the supervisor reads and checks and all
its workers share; and which lists belong to it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rdnscache.answer_rules import answer_terms, special_names
from rdnscache.config import Config
from rdnscache.dns.zones import Zones
from rdnscache.errors import ConfigError
from rdnscache.files import read_text
from rdnscache.lists.compiling import compile_text
from rdnscache.lists.sources import (
    ListSource,
    SourceError,
    check,
    chunks_of,
    open_list,
    sources_of,
    transfers_of,
)
from rdnscache.lists.transfer import Transfer
from rdnscache.lists.zone_session import require_dnspython
from rdnscache.policy.answers import AnswerTerms
from rdnscache.policy.blocking import BlockAnswer
from rdnscache.policy.compiled_list import BLOCK, ListFacts, Table, compile_list, read_compiled
from rdnscache.policy.directives import NOTHING, Directives
from rdnscache.policy.hosts_text import read_hosts
from rdnscache.policy.lists import Listed, Lists
from rdnscache.policy.local_record import LocalRecord, ZoneTextError
from rdnscache.policy.local_zones import LocalZones
from rdnscache.policy.name_table import KEY_OCTETS, NameTable
from rdnscache.policy.rpz import RpzZone
from rdnscache.policy.rpz_table import RpzTable
from rdnscache.policy.rpz_text import RPZ, is_zone
from rdnscache.policy.rules import FILE_SHIFT, Policy
from rdnscache.policy.special_names import SpecialNames
from rdnscache.policy.zone_text import read_zone_text
from rdnscache.rpz_source import RpzSource

#: The name of records in the configuration itself, in place of a file's.
INLINE = "configuration"


@dataclass(frozen=True, slots=True)
class PolicyData:
    """The part of a policy that all workers share."""

    local: LocalZones | None = None
    #: The files of local records, by number.
    files: tuple[str, ...] = ()
    lists: tuple[ListSource, ...] = ()
    answer: str = "nxdomain"
    #: A digest that differs whenever anything but the content of lists does.
    digest: str = ""
    special: SpecialNames | None = None
    #: The rules for answers, by zone.
    terms: Zones[AnswerTerms] | None = None
    #: For clients that a response policy zone lets pass: its index among the lists. That zone, those after it, and
    #: lists of names to block do not apply to them.
    before: int | None = None

    @property
    def zones(self) -> list[int]:
        """The indices of response policy zones among the lists."""
        return [place for place, source in enumerate(self.lists) if source.kind == RPZ]

    def policy(self, tables: Mapping[ListSource, Table], directives: Directives = NOTHING) -> Policy:
        """The policy of one worker."""
        files = ["_".join(Path(_called(file)).name.split()) for file in self.files]
        lists, answer = self.listed(tables, directives), BlockAnswer.parse(self.answer)
        return Policy(self.local, files, lists, answer, self.special, self.terms)

    def listed(self, tables: Mapping[ListSource, Table], directives: Directives) -> Lists:
        """Its lists, those that are available."""
        there = [(place, each.name, tables[each]) for place, each in enumerate(self.lists) if each in tables]
        lists = [Listed(name, table) for _, name, table in there if isinstance(table, NameTable)]
        zones = [
            RpzZone(name, table, place)
            for place, name, table in there
            if isinstance(table, RpzTable) and (self.before is None or place < self.before)
        ]
        return Lists(lists, directives, zones, self.before is None)


def load_policy(config: Config) -> PolicyData:
    """Raises ConfigError for bad local records, with file, line and reason, and for lists whose files cannot be read;
    the content of a list never raises it."""
    digest = hashlib.blake2b(digest_size=16)
    files = (*config.records, *config.hosts)
    local = _local_zones(config, files, digest) if files else None
    lists = sources_of(config)
    check(lists)
    if transfers_of(config):
        require_dnspython()
    digest.update(repr((lists, config.block_answer)).encode())
    special, terms = special_names(config, local), answer_terms(config)
    return PolicyData(local, files, lists, config.block_answer, digest.hexdigest(), special, terms)


def _local_zones(config: Config, files: Sequence[str], digest: hashlib.blake2b) -> LocalZones:
    """The records of all files together; a file's number is in the upper bits of each line number (see `Policy`)."""
    found: list[LocalRecord] = []
    for number, file in enumerate(files):
        try:
            text = read_text(file) if "\n" not in file else file
            records = read_zone_text(text) if number < len(config.records) else read_hosts(text)
        except ZoneTextError as error:
            raise ConfigError(f"{_called(file)}, {error}") from None
        except ValueError as error:
            raise ConfigError(f"{_called(file)} {error}") from None
        digest.update(text.encode())
        found += [replace(record, line=number << FILE_SHIFT | record.line) for record in records]
    try:
        return LocalZones(found)
    except ZoneTextError as error:
        file, line = _called(files[error.line >> FILE_SHIFT]), error.line & (1 << FILE_SHIFT) - 1
        raise ConfigError(f"{file}, line {line}: {error.reason}") from None


def _called(file: str) -> str:
    """How messages name a file, or records in the configuration itself."""
    return INLINE if "\n" in file else file


def _nobody_waits() -> None:
    pass


def compile_file(source: ListSource, breathe: Callable[[], None] = _nobody_waits) -> tuple[ListFacts, bytes]:
    """A list, read from its file. Raises ConfigError when that fails."""
    facts = ListFacts(source.kind, source.location)
    try:
        with open_list(source.location) as file:
            return facts, compile_text(chunks_of(file, breathe), facts, os.urandom(KEY_OCTETS), breathe)
    except (SourceError, ValueError) as error:
        raise ConfigError(f"{source.location} {error}") from None


def kind_of(path: str) -> str:
    """Whether a file is a list or a response policy zone. Raises ConfigError when it cannot be read."""
    try:
        with open_list(path) as file:
            return RPZ if is_zone(next(chunks_of(file, _nobody_waits), b"")) else BLOCK
    except (SourceError, ValueError) as error:
        raise ConfigError(f"{path} {error}") from None


def compile_transferred(source: ListSource, zone: RpzSource) -> tuple[ListFacts, bytes]:
    """A response policy zone, transferred from its server. Raises ConfigError when that fails."""
    facts = ListFacts(source.kind, source.location)
    with TemporaryDirectory(prefix="rdnscache-") as folder:
        copy = Transfer(zone, Path(folder, "zone"), _nobody_waits)
        path = copy.refresh()
        if path is None:
            raise ConfigError(f"{source.location} is not transferred: {copy.problem}")
        with path.open("rb") as file:
            return facts, compile_list(chunks_of(file, _nobody_waits), facts, os.urandom(KEY_OCTETS), False)


def compiled_here(
    lists: Sequence[ListSource], zones: Mapping[str, RpzSource]
) -> dict[ListSource, tuple[ListFacts, Table]]:
    """Compile lists from files, and zones, at once: for commands, which cannot use those of a node."""
    found: dict[ListSource, tuple[ListFacts, Table]] = {}
    for source in lists:
        if source.local:
            found[source] = read_compiled(compile_file(source)[1])
        elif source.word in zones:
            found[source] = read_compiled(compile_transferred(source, zones[source.word])[1])
    return found


def facts_here(lists: Sequence[ListSource], zones: Mapping[str, RpzSource]) -> list[ListFacts]:
    """The content of each list, in order; all are fetched. Raises ConfigError when one cannot be read."""
    found = []
    for source in lists:
        if source.web:
            from rdnscache.lists.web import fetch

            facts = ListFacts(source.kind, source.location)
            try:
                with fetch(source.location, "", _nobody_waits).file or BytesIO() as file:
                    compile_list(chunks_of(file, _nobody_waits), facts, os.urandom(KEY_OCTETS))
            except (SourceError, ValueError) as error:
                raise ConfigError(f"{source.location} {error}") from None
        elif source.word in zones:
            facts = compile_transferred(source, zones[source.word])[0]
        else:
            facts = compile_file(source)[0]
        found.append(facts)
    return found
