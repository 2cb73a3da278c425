"""The transferred zones of a node. They are transferred concurrently, so that a slow server delays only its own
zone."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import IO, Protocol

from rdnscache.breath import go_on
from rdnscache.lists.shelf import Shelf
from rdnscache.lists.transfer import Transfer
from rdnscache.policy.compiled_list import FORMAT
from rdnscache.rpz_source import RpzSource

log = logging.getLogger(__name__)

#: Seconds between two checks whether it is our turn while another node of the cluster transfers a zone; and between two
#: transfers, however often a server sends notifications.
LOOK, AGAIN = 1.0, 0.5


class Cluster(Protocol):
    """The information nodes share about a zone, by its name among them. No method raises."""

    def may_transfer(self, word: str) -> bool:
        """Whether no other node transfers it, or has done so recently."""

    def transferred(self, word: str, pause: float, expire: float) -> None:
        """The zone is due again after `pause` seconds; unless `expire` is 0, the present copy is valid for that
        long."""

    def holds(self, word: str) -> bool:
        """Whether the server has recently confirmed the zone to any node."""


@dataclass(slots=True)
class ZoneCopy:
    """One zone. `cluster` is None for a node without Redis."""

    word: str
    transfer: Transfer
    shelf: Shelf
    cluster: Cluster | None
    #: Whether it is not applied because it has not been confirmed for too long.
    expired: bool = False
    _thread: Thread | None = None
    _changed: Path | None = None
    _heard: int = 0
    _asked: float = 0.0
    _settled: bool = True

    @classmethod
    def of(cls, word: str, source: RpzSource, shelf: Shelf, cluster: Cluster | None) -> ZoneCopy:
        found = cls(word, Transfer(source, shelf.copy(word), go_on), shelf, cluster)
        found._heard = shelf.notified(word)
        return found

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def calls(self) -> bool:
        """Whether there is work: the server has sent a notification, or has answered."""
        return (not self._settled and not self.busy) or self._told()

    def _told(self) -> bool:
        return self.shelf.notified(self.word) != self._heard and time.monotonic() >= self._asked + AGAIN

    def step(self, patience: float) -> IO[bytes] | None:
        """Ask the server if it is due, and wait up to `patience` seconds; returns the zone's text if it has changed."""
        if self._settled:
            self._begin()
        if self._thread is not None and patience:
            self._thread.join(patience)
        return self._end() if not self._settled and not self.busy else None

    def _begin(self) -> None:
        told, now = self._told(), time.monotonic()
        if told:
            self._heard = self.shelf.notified(self.word)
            self.transfer.notified()
        elif now < self.transfer.due:
            return
        elif self.cluster is not None and not self.cluster.may_transfer(self.word):
            self.transfer.due = now + LOOK
            return
        self._asked = now
        self._settled = False
        self._thread = Thread(target=self._run, name=self.word, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._changed = self.transfer.refresh()
        except Exception:
            log.exception("%s: the zone transfer failed because of an internal error", self.transfer.source)
            self.transfer.due = time.monotonic() + LOOK * 60

    def _end(self) -> IO[bytes] | None:
        self._settled = True
        transfer, changed = self.transfer, self._changed
        self._thread = self._changed = None
        holds = not transfer.fails and transfer.soa is not None
        if self.cluster is not None:
            expire = float(transfer.soa.expire) if holds and transfer.soa is not None else 0.0
            self.cluster.transferred(self.word, max(transfer.due - time.monotonic(), LOOK), expire)
        if holds and (changed is not None or self.expired):
            self.expired = False
            return self.text()
        if not holds and transfer.expired and not self.expired:
            if self.cluster is not None and self.cluster.holds(self.word):
                return None
            self.expired = True
            log.warning("%s: not confirmed for longer than its SOA allows; it is not applied until it is confirmed",
                        transfer.source)  # fmt: skip
            return self.text()
        return None

    def text(self) -> IO[bytes] | None:
        """The zone's text; only its SOA when it has expired; None without a copy."""
        with suppress(OSError):
            file = self.transfer.path.open("rb")
            if not self.expired:
                return file
            with file:
                return BytesIO(file.readline())
        return None


def digest_of_zone(file: IO[bytes], breathe: Callable[[], None]) -> str:
    """A digest of a zone that does not depend on the order of its records."""
    total = 0
    for number, line in enumerate(file):
        if number % 1024 == 0:
            breathe()
        total += int.from_bytes(hashlib.blake2b(line, digest_size=16, person=FORMAT).digest(), "big")
    file.seek(0)
    return (total % (1 << 128)).to_bytes(16, "big").hex()
