"""The process of a node that has its lists ready: reads and fetches them, passes them on to the cluster, and takes from
there what others have. Nobody waits for it but a node that begins, and one that is told to reload.

It uses neither gevent nor a worker's link to Redis; what it does may take as long as it likes.
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
from rdnscache.rpz_source import RpzSource

log = logging.getLogger(__name__)

#: Seconds between two looks; for which a node that begins waits for lists it has nothing of; between two attempts to
#: fetch one, at first and at last.
LOOK, FIRST_WAIT = 1.0, 10.0
#: Seconds between two looks whether the server of a zone has said something.
GLANCE = 0.05
FIRST_PAUSE, LAST_PAUSE = 30.0, 3600.0
#: Seconds between two looks for files that nobody uses.
TIDY = 3600.0


@dataclass(slots=True)
class Held:
    """A source, and what of it is on the shelf. Times are monotonic."""

    source: ListSource
    version: Version | None = None
    #: Of the file it was made from; or what a server calls it.
    stamp: Stamp | None = None
    tag: str = ""
    #: When it may be fetched next, after how many failures.
    next_fetch: float = 0.0
    failures: int = 0
    #: What went wrong last, not to be said again.
    problem: str = ""
    #: The text that the log has been told of.
    told: str = ""


@dataclass(slots=True)
class Librarian:
    """`exchange` is None without Redis. `breathe` is called between short steps, to show that we live."""

    shelf: Shelf
    sources: tuple[ListSource, ...]
    refresh: float
    exchange: Exchange | None
    breathe: Breathe
    #: Those that are transferred, by what they are called among the nodes.
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
        """See what has changed, here and in the cluster. What is fetched for the first time has `patience` seconds."""
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
        stamp = Stamp.of(held.source.place)
        if stamp is not None and stamp == held.stamp:
            return None
        try:
            with open_list(held.source.place) as file:
                version = self._kept(held, file, _modified(stamp, held.version))
        except (ConfigError, SourceError, OSError) as error:
            return self._problem(held, str(error))
        if Stamp.of(held.source.place) != stamp:
            return None  # it is being written
        held.stamp, held.problem = stamp, ""
        if held.version is None or version.modified > held.version.modified:
            held.version = version
        return None

    def _step(self, held: Held, patience: float) -> None:
        """A zone, if it is time, or its server has answered or said that there is something new."""
        zone = self.zones[held.source.word]
        try:
            text = zone.step(patience)
            if text is None and held.version is None and not zone.busy:
                text = zone.text()
            if text is not None:
                with text:
                    held.version = self._kept(held, text, time.time(), digest_of_zone(text, self.breathe))
        except (SourceError, OSError) as error:
            self._problem(held, f"{held.source.place} {error}")

    @property
    def calls(self) -> bool:
        """Whether a zone is to be looked at at once."""
        return any(zone.calls for zone in self.zones.values())

    def _fetch(self, held: Held) -> None:
        """A list from the web, if it is time and nobody else of the cluster does it."""
        now = time.monotonic()
        if now < held.next_fetch:
            return None
        first = held.version is None
        if self.exchange is not None and not self.exchange.may_fetch(held.source, self.refresh, first):
            held.next_fetch = now + LOOK
            return None
        try:
            fetched = fetch(held.source.place, "" if first else held.tag, self.breathe)
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
            stays = "there is none yet" if first else "the one we have stays"
            return self._problem(held, f"{held.source.place} {error}; {stays}")
        held.tag, held.failures, held.problem = fetched.tag, 0, ""
        held.next_fetch = now + (LOOK if self.exchange is not None else self.refresh)
        if self.exchange is not None:
            self.exchange.fetch_again(held.source, self.refresh)
        return None

    def _kept(self, held: Held, file: IO[bytes], modified: float, digest: str = "") -> Version:
        """The version that a text is, compiled on the shelf."""
        source = held.source
        digest = digest or digest_of(source.kind, file, self.breathe)
        if not self._usable(digest):
            facts = ListFacts(source.kind, source.place)
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
        """Whether a compiled list is on the shelf: one that is damaged is made anew."""
        if not self.shelf.has(digest):
            return False
        try:
            read_compiled(memoryview(self.shelf.map(digest)))
        except (OSError, ValueError):
            return False
        return True

    def _meet(self) -> None:
        """Give the cluster what is newer here, and take what is newer there."""
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
        """Tell the workers, and delete what is not used any more."""
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
    """When a file was changed, in seconds since 1970. One that has come in place of a list we know was changed then,
    however old it says it is: a copy from before, moved there, is what somebody wants now."""
    if stamp is None:
        return time.time()
    return (stamp.modified if known is None else max(stamp.modified, stamp.changed)) / 1e9


def version_of(digest: str, modified: float, shelf: Shelf) -> Version:
    """Of a compiled list on a shelf."""
    data = memoryview(shelf.map(digest))
    check = hashlib.blake2b(data, digest_size=16).hexdigest()
    return Version(digest, check, modified, read_compiled(data)[0].names, len(data))


def _tell(source: ListSource, facts: ListFacts) -> None:
    """How many names there are, and what was not understood."""
    log.info("%s list %s: %d names", source.kind, source.place, facts.names)
    if facts.refused:
        first = facts.remarks[0]
        log.warning("%s list %s: %d lines are skipped, the first is line %d: %s (`rdnscache policy check` shows them)",
                    source.kind, source.place, facts.refused, first.line, first.reason)  # fmt: skip


def run_lists(
    config: Config, url: str | None, shelf: Shelf, prove: bool, ready: Callable[[], None], breathe: Breathe
) -> int:
    """The whole life of the process; `ready` is called when all lists are there that can be.

    To `prove` is to wait until all workers of the cluster use what has changed; those of a node that begins do not yet.
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
