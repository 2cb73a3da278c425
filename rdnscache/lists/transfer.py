"""A zone that is transferred from a server (RFC 5936, RFC 1995), kept as zone-file text.

The text has one record per line, the SOA first, so that an incremental transfer only adds and removes lines: neither
the zone nor a full transfer is ever held in memory as a whole. This module does not depend on the use of the zone.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from struct import Struct

from rdnscache.dns.names import parse_name
from rdnscache.dns.wire import SOA
from rdnscache.lists.zone_session import AXFR, IXFR, NotIncremental, Record, Session, TransferError, require_dnspython
from rdnscache.rpz_source import RpzSource

log = logging.getLogger(__name__)

#: Bounds for the refresh interval in seconds, whatever the SOA says; and the first one while there is no SOA, which is
#: doubled each time.
LEAST_PAUSE, MOST_PAUSE, FIRST_RETRY = 5.0, 86400.0, 30.0
#: Records that an incremental transfer may change.
MOST_CHANGES = 500_000
#: Behind the name of a file that is written beside the one in use.
_NEW = ".new"
_TIMES = Struct("!4I")


@dataclass(frozen=True, slots=True)
class Soa:
    """The timers in a zone's SOA; times are in seconds."""

    serial: int
    refresh: int
    retry: int
    expire: int

    @classmethod
    def of(cls, rdata: bytes) -> Soa:
        return cls(*_TIMES.unpack(rdata[-20:-4]))

    def newer_than(self, other: Soa) -> bool:
        """RFC 1982 section 3.2."""
        return 0 < (self.serial - other.serial) % (1 << 32) < 1 << 31


class Transfer:
    """The copy of one zone at `path`. `breathe` is called between short steps; `clock` is monotonic, in seconds."""

    def __init__(
        self, source: RpzSource, path: Path, breathe: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        require_dnspython()
        self.source = source
        self.path = path
        self._breathe = breathe
        self._clock = clock
        self._zone = parse_name(source.zone)
        self._failures = 0
        #: Why the last attempt failed; empty when it did not.
        self.problem = ""
        self.soa = _soa_of(path)
        #: When the server is asked next; at the start at once.
        self.due = clock()
        #: When the copy was last known to be current.
        self._checked = clock()
        if self.soa is not None:
            with suppress(OSError):
                self._checked -= max(time.time() - path.stat().st_mtime, 0.0)

    @property
    def expired(self) -> bool:
        """Whether the copy has been unconfirmed for too long to be used (RFC 1035 section 3.3.13)."""
        return self.soa is not None and self._clock() - self._checked > self.soa.expire

    @property
    def fails(self) -> bool:
        """Whether the server could not be asked the last time."""
        return self._failures > 0

    def notified(self) -> None:
        """The server has announced a change (RFC 1996)."""
        self.due = self._clock()

    def refresh(self) -> Path | None:
        """Ask the server; returns the copy if it has changed. A failure is logged, and the copy stays."""
        try:
            changed = self._refresh()
        except (TransferError, OSError) as error:
            self._failed(str(error) or type(error).__name__)
            return None
        self._checked = self._clock()
        self._failures, self.problem = 0, ""
        assert self.soa is not None
        self.due = self._checked + min(max(self.soa.refresh, LEAST_PAUSE), MOST_PAUSE)
        with suppress(OSError):
            os.utime(self.path)
        if not changed:
            return None
        log.info("%s: serial %d", self.source, self.soa.serial)
        return self.path

    def _failed(self, reason: str) -> None:
        self._failures += 1
        pause = self.soa.retry if self.soa is not None else FIRST_RETRY * 2 ** min(self._failures - 1, 6)
        self.due = self._clock() + min(max(pause, LEAST_PAUSE), MOST_PAUSE)
        if reason != self.problem:
            self.problem = reason
            stays = "there is no copy yet" if self.soa is None else f"serial {self.soa.serial} stays"
            log.warning("%s: the zone transfer failed: %.300s; %s", self.source, reason, stays)

    def _refresh(self) -> bool:
        """Whether the copy has changed."""
        ours = self.soa
        if ours is not None and self.source.incremental:
            try:
                return self._changes_since(ours)
            except NotIncremental as error:
                log.debug("%s: %s", self.source, error)
        elif ours is not None and not self._serial_of_server().newer_than(ours):
            return False
        with closing(self._session(AXFR)) as session:
            records = session.records()
            first = self._first(records)
            self._write(first, self._until(session, records, first))
        return True

    def _session(self, rtype: int, serial: int = 0) -> Session:
        return Session(self.source, self._zone, rtype, self._breathe, serial)

    def _serial_of_server(self) -> Soa:
        with closing(self._session(SOA)) as session:
            found = self._first(session.records())
            session.end()
            return Soa.of(found.rdata)

    def _first(self, records: Iterator[Record]) -> Record:
        first = next(records, None)
        if first is None or first.rtype != SOA or first.name != self._zone:
            raise TransferError("it does not begin with the SOA of the zone")
        return first

    def _until(self, session: Session, records: Iterator[Record], first: Record) -> Iterator[bytes]:
        """The lines of all records up to the SOA that ends them."""
        for record in records:
            if record.rtype == SOA and record.name == self._zone:
                if record.rdata != first.rdata:
                    raise TransferError("it ends with another SOA than it began with")
                return session.end()
            yield record.line()
        return None

    def _write(self, first: Record, lines: Iterator[bytes]) -> None:
        """Replace the copy by the new content once all of it has arrived."""
        new = self.path.with_name(self.path.name + _NEW)
        try:
            with new.open("wb") as file:
                file.write(first.line())
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        self.soa = Soa.of(first.rdata)

    def _changes_since(self, ours: Soa) -> bool:
        """Ask for changes only; returns whether there were any (RFC 1995 section 4)."""
        with closing(self._session(IXFR, ours.serial)) as session:
            records = session.records()
            first = self._first(records)
            if not Soa.of(first.rdata).newer_than(ours):
                session.end()
                return False
            second = self._second(records)
            if second.rtype != SOA:  # the server sends the full zone
                self._write(first, self._until(session, chain([second], records), first))
            elif Soa.of(second.rdata).serial == ours.serial:
                removed, added = self._changes(session, records, first)
                self._write(first, self._changed(removed, added))
            else:
                raise NotIncremental("the changes do not begin at our serial")
        return True

    def _second(self, records: Iterator[Record]) -> Record:
        try:
            return next(records)
        except (TransferError, TimeoutError) as error:  # it may have sent only its serial
            raise NotIncremental(str(error)) from None

    def _changes(
        self, session: Session, records: Iterator[Record], first: Record
    ) -> tuple[set[bytes], dict[bytes, bytes]]:
        """The removed and the added lines, by their text without TTL. There may be several differences in sequence."""
        removed, added = set[bytes](), dict[bytes, bytes]()
        removes = True  # the old SOA has been read
        for record in records:
            if record.rtype == SOA and record.name == self._zone:
                if not removes and record.rdata == first.rdata:
                    break
                removes = not removes
                continue
            line = record.line()
            what = _without_ttl(line)
            if not removes:
                added[what] = line
            elif added.pop(what, None) is None:
                removed.add(what)
            if len(removed) + len(added) > MOST_CHANGES:
                raise NotIncremental(f"more than {MOST_CHANGES} records have changed")
        session.end()
        return removed, added

    def _changed(self, removed: set[bytes], added: dict[bytes, bytes]) -> Iterator[bytes]:
        """The lines of the copy with the changes applied. NotIncremental when they do not fit it."""
        with self.path.open("rb") as file:
            next(file)  # the SOA
            for number, line in enumerate(file):
                if number % 4096 == 0:
                    self._breathe()
                what = _without_ttl(line)
                if what in removed:
                    removed.discard(what)
                elif what not in added:
                    yield line
        if removed:
            raise NotIncremental("a record is to be removed that is not there")
        yield from added.values()


def _without_ttl(line: bytes) -> bytes:
    name, _, rest = line.split(b" ", 2)
    return name + b" " + rest


def _soa_of(path: Path) -> Soa | None:
    """The SOA of a copy; None when there is no usable copy."""
    try:
        with path.open("rb") as file:
            _, _, kind, mark, size, digits = file.readline(4096).decode().split()
        rdata = bytes.fromhex(digits)
    except (OSError, ValueError):
        return None
    return Soa.of(rdata) if (kind, mark, size) == ("SOA", "\\#", str(len(rdata))) and len(rdata) >= 22 else None
