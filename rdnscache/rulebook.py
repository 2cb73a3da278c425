"""The policies of a worker, kept up to date when lists or operators' orders change."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rdnscache.lists.shelf import Shelf
from rdnscache.lists.sources import ListSource
from rdnscache.logs import Throttled
from rdnscache.policies import PolicyData
from rdnscache.policy.compiled_list import Table, read_compiled
from rdnscache.policy.directives import Directives
from rdnscache.policy.list_version import Version, newer
from rdnscache.store.policy_document import PolicyDocument, read_document
from rdnscache.store.seal import Seal

log = logging.getLogger(__name__)


class Rulebook:
    """`data` has the policies of all groups of clients. Times are in seconds since 1970."""

    def __init__(self, data: Sequence[PolicyData], shelf: Shelf | None, key: bytes, seal: Seal | None) -> None:
        self._data = data
        self.shelf = shelf
        self._key = key
        self._seal = seal
        self._lists = tuple(dict.fromkeys(source for each in data for source in each.lists))
        self._document = PolicyDocument()
        self._stamp = (0, 0)
        self._tables: dict[ListSource, tuple[str, Table]] = {}
        self._directives = Directives()
        self._paused = False
        self._odd = Throttled(log)
        self.policies = [each.policy({}) for each in data]
        if shelf is not None and (raw := shelf.kept_orders()):
            self._read(raw)
        self.look(time.time())

    @property
    def version(self) -> int:
        """The version of the cluster's orders that is in force here."""
        return self._document.version

    def told(self) -> dict[str, Any]:
        """The report about it: which lists are in force, and which orders."""
        lists = {source.word[:200]: digest[:8] for source, (digest, _) in list(self._tables.items())[:50]}
        return {"version": self.version, "paused": self._paused, "lists": lists}

    def take(self, raw: bytes) -> bool:
        """Take the cluster's orders as they are in Redis; call `look` after it. False when a list is not here yet."""
        self._odd.catch_up(time.monotonic())
        document = self._read(raw) if raw else self._document
        self._document = document
        return not self._missing(document)

    def look(self, wall: float) -> bool:
        """Use the current lists and orders; True if any decision may differ from before."""
        if self.shelf is not None:
            self._stamp = self.shelf.stamp()
        tables = self._current()
        directives = self._document.directives(wall)
        if tables == self._tables and directives == self._directives:
            return False
        self._tables, self._directives = tables, directives
        self._paused = directives.paused
        named = {source: table for source, (_, table) in tables.items()}
        for data, policy in zip(self._data, self.policies, strict=True):
            policy.lists = data.listed(named, directives)
        return True

    def due(self, wall: float) -> bool:
        """Whether `look` is due: the node's lists have changed, or a pause has ended."""
        stamp = self.shelf.stamp() if self.shelf is not None else self._stamp
        return stamp != self._stamp or self._document.paused(wall) != self._paused

    @property
    def summary(self) -> str:
        """A summary of what is in force, for the log."""
        names = sum(len(table) for _, table in self._tables.values())
        ordered = len(self._document.blocked) + len(self._document.passed)
        text = f"lists: {len(self._tables)}, names in them: {names}, names ordered: {ordered}"
        return f"{text}, blocking paused" if self._paused else text

    def _read(self, raw: bytes) -> PolicyDocument:
        try:
            document = read_document(raw, self._key, self._seal)
        except ValueError as error:
            self._odd.warn(f"the cluster's policy in Redis is not used: {error}", time.monotonic())
            return self._document
        return document if document.version > self._document.version else self._document

    def _missing(self, document: PolicyDocument) -> bool:
        wanted = self._versions(document).values()
        return self.shelf is not None and any(not self.shelf.has(version.digest) for version in wanted)

    def _versions(self, document: PolicyDocument) -> dict[ListSource, Version]:
        noted: Mapping[str, Version] = self.shelf.noted() if self.shelf is not None else {}
        found = {source: newer(document.lists.get(source.word), noted.get(source.word)) for source in self._lists}
        return {source: version for source, version in found.items() if version is not None}

    def _current(self) -> dict[ListSource, tuple[str, Table]]:
        """The table of each list; the old one when the new one cannot be read."""
        found: dict[ListSource, tuple[str, Table]] = {}
        for source, version in self._versions(self._document).items():
            before = self._tables.get(source)
            if before is not None and before[0] == version.digest:
                found[source] = before
                continue
            try:
                assert self.shelf is not None
                found[source] = version.digest, read_compiled(self.shelf.map(version.digest))[1]  # type: ignore[arg-type]
            except (OSError, ValueError) as error:
                self._odd.warn(f"the list {source.location} cannot be used: {error}", time.monotonic())
                if before is not None:
                    found[source] = before
        return found
