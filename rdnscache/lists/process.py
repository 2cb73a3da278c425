"""The process of a node that keeps its lists up to date: it reads and fetches lists, publishes them to the cluster, and
takes over those of others. Only a node that starts or reloads waits for it.

It uses neither gevent nor a worker's link to Redis, and may block.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO

from rdnscache.breath import Breathe
from rdnscache.config import Config
from rdnscache.errors import ConfigError, StoreDown
from rdnscache.lists.compiling import compile_text
from rdnscache.lists.exchange import Exchange
from rdnscache.lists.shelf import Shelf
from rdnscache.lists.sources import (
    ListSource,
    SourceError,
    Stamp,
    all_sources,
    all_transfers,
    chunks_of,
    digest_of,
    open_list,
)
from rdnscache.lists.web import fetch
from rdnscache.lists.zones import ZoneCopy, digest_of_zone
from rdnscache.policy.compiled_list import ListFacts, read_compiled
from rdnscache.policy.list_version import Version
from rdnscache.policy.name_table import KEY_OCTETS
from rdnscache.policy.rpz_text import RPZ
from rdnscache.rpz_source import RpzSource

log = logging.getLogger(__name__)

#: Seconds between two checks; for which a starting node waits for lists it has no copy of; between two attempts to
#: fetch a list, at first and at most.
LOOK, FIRST_WAIT = 1.0, 10.0
#: Seconds between two checks for notifications by servers of zones.
GLANCE = 0.05
FIRST_PAUSE, LAST_PAUSE = 30.0, 3600.0
#: Seconds between two checks for unused files.
TIDY = 3600.0


@dataclass(slots=True)
class Held:
    """A source, and its version on the shelf. Times are monotonic."""

    source: ListSource
    version: Version | None = None
    #: The state of the file it was made from; or the server's tag for it.
    stamp: Stamp | None = None
    tag: str = ""
    #: When it may be fetched next, after how many failures.
    next_fetch: float = 0.0
    failures: int = 0
    #: The last problem that was logged, so that it is not repeated.
    problem: str = ""
    #: The digest of the text that was last logged.
    told: str = ""


@dataclass(slots=True)
class Librarian:
    """`exchange` is None without Redis. `breathe` is called between short steps, to show that we live."""

    shelf: Shelf
    sources: tuple[ListSource, ...]
    refresh: float
    exchange: Exchange | None
    breathe: Breathe
    #: The transferred zones, by their names among nodes.
    transfers: Mapping[str, RpzSource] = field(default_factory=dict)
    held: list[Held] = field(init=False)
    zones: dict[str, ZoneCopy] = field(init=False)
    _next_tidy: float = 0.0

    def __post_init__(self) -> None:
        noted = self.shelf.noted()
        self.held = [Held(source, self._there(noted.get(source.word))) for source in self.sources]
        self.zones = {word: ZoneCopy.of(word, source, self.shelf, self.exchange)
                      for word, source in self.transfers.items()}  # fmt: skip

    def _there(self, version: Version | None) -> Version | None:
        return version if version is not None and self._usable(version.digest) else None

    def round(self, patience: float = 3600.0, first: bool = False) -> None:
        """Check for changes here and in the cluster. A list fetched for the first time is waited for `patience`
        seconds."""
        for held in self.held:
            if held.source.local:
                self._read(held)
        self._meet()
        end = time.monotonic() + patience
        for held in self.held:
            if held.source.transferred:
                self._step(held, max(end - time.monotonic(), 0.0) if held.version is None and first else 0.0)
        for held in self.held:
            if held.source.web and time.monotonic() < end:
                self._fetch(held)
        self._meet()
        self._note()

    def _read(self, held: Held) -> None:
        """A file, when it has changed."""
        stamp = Stamp.of(held.source.location)
        if stamp is not None and stamp == held.stamp:
            return None
        try:
            with open_list(held.source.location) as file:
                version = self._kept(held, file, _modified(stamp, held.version))
        except (ConfigError, SourceError, OSError) as error:
            return self._problem(held, str(error))
        if Stamp.of(held.source.location) != stamp:
            return None  # it is being written
        held.stamp, held.problem = stamp, ""
        if held.version is None or version.modified > held.version.modified:
            held.version = version
        return None

    def _step(self, held: Held, patience: float) -> None:
        """Update a zone, if it is due, or its server has answered or sent a notification."""
        zone = self.zones[held.source.word]
        try:
            text = zone.step(patience)
            if text is None and held.version is None and not zone.busy:
                text = zone.text()
            if text is not None:
                with text:
                    held.version = self._kept(held, text, time.time(), digest_of_zone(text, self.breathe))
        except (SourceError, OSError) as error:
            self._problem(held, f"{held.source.location} {error}")

    @property
    def calls(self) -> bool:
        """Whether a zone has to be updated at once."""
        return any(zone.calls for zone in self.zones.values())

    def _fetch(self, held: Held) -> None:
        """Fetch a list from the web, if it is due and no other node of the cluster does it."""
        now = time.monotonic()
        if now < held.next_fetch:
            return None
        first = held.version is None
        if self.exchange is not None and not self.exchange.may_fetch(held.source, self.refresh, first):
            held.next_fetch = now + LOOK
            return None
        try:
            fetched = fetch(held.source.location, "" if first else held.tag, self.breathe)
            if fetched.file is not None:
                with fetched.file as file:
                    version = self._kept(held, file, time.time())
                if held.version is None or version.digest != held.version.digest:
                    held.version = version
        except (SourceError, OSError) as error:
            held.failures += 1
            pause = min(FIRST_PAUSE * 2 ** min(held.failures - 1, 10), LAST_PAUSE, self.refresh)
            held.next_fetch = now + pause
            if self.exchange is not None:
                self.exchange.fetch_again(held.source, pause)
            stays = "there is none yet" if first else "the present version stays in use"
            return self._problem(held, f"{held.source.location} {error}; {stays}")
        held.tag, held.failures, held.problem = fetched.tag, 0, ""
        held.next_fetch = now + (LOOK if self.exchange is not None else self.refresh)
        if self.exchange is not None:
            self.exchange.fetch_again(held.source, self.refresh)
        return None

    def _kept(self, held: Held, file: IO[bytes], modified: float, digest: str = "") -> Version:
        """The version for a text, which is compiled onto the shelf if it is not there."""
        source = held.source
        digest = digest or digest_of(source.kind, file, self.breathe)
        if not self._usable(digest):
            facts = ListFacts(source.kind, source.location)
            try:
                chunks, key = chunks_of(file, self.breathe), os.urandom(KEY_OCTETS)
                data = compile_text(chunks, facts, key, self.breathe, not source.transferred)
            except ValueError as error:
                raise SourceError(str(error)) from None
            self.shelf.put(digest, data)
        version = version_of(digest, modified, self.shelf)
        if held.told != digest:
            held.told = digest
            _tell(source, read_compiled(self.shelf.map(digest))[0])  # type: ignore[arg-type]
        return version

    def _usable(self, digest: str) -> bool:
        """Whether an intact compiled list is on the shelf; a damaged one is compiled again."""
        if not self.shelf.has(digest):
            return False
        try:
            read_compiled(memoryview(self.shelf.map(digest)))
        except (OSError, ValueError):
            return False
        return True

    def _meet(self) -> None:
        """Publish lists that are newer here, and take over those that are newer in the cluster."""
        if self.exchange is None:
            return
        words = [held.source.word for held in self.held]
        try:
            self.exchange.meet(words, self.held_versions(), self._take)
        except StoreDown as error:
            log.debug("lists are not exchanged: %s", error)

    def held_versions(self) -> dict[str, Version]:
        return {held.source.word: held.version for held in self.held if held.version is not None}

    def _take(self, word: str, version: Version) -> None:
        for held in self.held:
            if held.source.word == word:
                held.version = version

    def _note(self) -> None:
        """Tell the workers, and delete files that are no longer used."""
        versions = self.held_versions()
        try:
            if versions != self.shelf.noted():
                self.shelf.note(versions)
            if time.monotonic() >= self._next_tidy:
                self._next_tidy = time.monotonic() + TIDY
                for version in versions.values():
                    self.shelf.use(version.digest)
                self.shelf.tidy(version.digest for version in versions.values())
        except OSError as error:
            log.warning("the state of the lists cannot be saved in %s: %s", self.shelf.directory, error)

    def _problem(self, held: Held, text: str) -> None:
        if text != held.problem:
            held.problem = text
            log.warning("%s list: %s", held.source.kind, text)


def _modified(stamp: Stamp | None, known: Version | None) -> float:
    """When a file was changed, in seconds since 1970. A file that has replaced a known one counts as changed at that
    moment even if it is older: somebody has put a former copy in its place on purpose."""
    if stamp is None:
        return time.time()
    return (stamp.modified if known is None else max(stamp.modified, stamp.changed)) / 1e9


def version_of(digest: str, modified: float, shelf: Shelf) -> Version:
    """The version of a compiled list on the shelf."""
    data = memoryview(shelf.map(digest))
    check = hashlib.blake2b(data, digest_size=16).hexdigest()
    return Version(digest, check, modified, read_compiled(data)[0].names, len(data))


def _tell(source: ListSource, facts: ListFacts) -> None:
    """Log the number of names, and lines that were not understood."""
    log.info("%s list %s: %d %s", source.kind, source.location, facts.names, "rules" if source.kind == RPZ else "names")
    if facts.refused:
        first = facts.remarks[0]
        log.warning("%s list %s: lines skipped: %d, the first is line %d: %s (`rdnscache policy check` shows them)",
                    source.kind, source.location, facts.refused, first.line, first.reason)  # fmt: skip


def run_lists(
    config: Config, url: str | None, shelf: Shelf, prove: bool, ready: Callable[[], None], breathe: Breathe
) -> int:
    """The main function of the process; `ready` is called once all available lists are there.

    With `prove` it then waits until all workers of the cluster use the changes; the workers of a starting node do not
    yet.
    """
    exchange = Exchange(config, url, shelf, breathe) if url is not None else None
    librarian = Librarian(shelf, all_sources(config), config.list_refresh, exchange, breathe, all_transfers(config))
    if exchange is not None:
        exchange.proves = prove
    librarian.round(FIRST_WAIT, True)
    ready()
    if exchange is not None:
        exchange.proves = True
    parent = os.getppid()
    while os.getppid() == parent:
        until = time.monotonic() + LOOK
        while (left := until - time.monotonic()) > 0 and not librarian.calls:
            breathe()
            time.sleep(min(left, GLANCE) if librarian.zones else left)
        librarian.round()
    return 0
