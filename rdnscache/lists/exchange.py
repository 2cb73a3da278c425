"""Lists in Redis: one node compiles a list, all others fetch it from there, and one event makes all workers use it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping

from rdnscache.breath import Breathe
from rdnscache.config import Config
from rdnscache.errors import StoreDown
from rdnscache.lists.shelf import Shelf
from rdnscache.lists.sources import ListSource
from rdnscache.operator.entries import Browser
from rdnscache.operator.members import Members
from rdnscache.operator.policy_orders import PolicyOrders
from rdnscache.operator.redis_clients import redis_errors
from rdnscache.policy.compiled_list import MOST_OCTETS, read_compiled
from rdnscache.policy.list_version import Version, newer
from rdnscache.store.policy_document import PolicyDocument, fetch_key, part_key
from rdnscache.store.seal import Seal

log = logging.getLogger(__name__)

#: Octets of a part of a list in Redis, small enough that it delays no other command.
PART = 256 << 10
#: Seconds for which parts are kept that are not announced, or no longer; and for which a claim to fetch a list holds.
UNANNOUNCED, FETCHING = 3600, 180
#: Suffix of a zone's word, for the key that says its copy is still valid.
HOLDS = " holds"
#: Seconds to wait until all workers use a list.
PATIENCE = 30.0
#: Seconds between two warnings that a list cannot be fetched from Redis.
PAUSE = 60.0


class Exchange:
    """Every method raises StoreDown when Redis cannot be used, except those about claims to fetch or transfer."""

    def __init__(self, config: Config, url: str, shelf: Shelf, breathe: Breathe) -> None:
        seal = Seal(config.secret) if config.secret else None
        browser = Browser(url, config.prefix, seal, breathe)
        self._browser = browser
        self._names = browser.names
        self._orders = PolicyOrders(browser, lambda: Members(browser.redis, browser.names, breathe), PATIENCE)
        self._shelf = shelf
        self._breathe = breathe
        self._kept = shelf.kept_orders()
        self._next_warning = self._next_look = 0.0
        #: Whether to wait until all workers use a published list.
        self.proves = True

    def meet(self, wanted: Iterable[str], ours: Mapping[str, Version], take: Callable[[str, Version], None]) -> None:
        """Publish lists that are newer here; `take` those that are newer in Redis, once they are on the shelf.

        `wanted` are all lists of this node by name; `ours` those it has.
        """
        raw, document = self._orders.read()
        if not document.version and self._kept:  # lost, or not signed with our secret
            raw, document = self._orders.restore(self._kept, raw)
        if raw != self._kept and document.version:
            self._shelf.keep_orders(raw)
            self._kept = raw
        for word in wanted:
            mine, theirs = ours.get(word), document.lists.get(word)
            if theirs is None or (mine is not None and mine.digest == theirs.digest):
                continue
            if newer(mine, theirs) is theirs:
                self._fetch_parts(word, theirs, take)
        self._restore_parts(document, ours)
        offered = {
            word: version for word, version in ours.items() if _to_be_published(version, document.lists.get(word))
        }
        if offered:
            self._publish(offered)

    def _fetch_parts(self, word: str, version: Version, take: Callable[[str, Version], None]) -> None:
        """A list from Redis, unless it is here already."""
        if not self._shelf.has(version.digest):
            try:
                self._shelf.put(version.digest, self._whole(version))
            except (ValueError, OSError) as error:
                if time.monotonic() >= self._next_warning:
                    self._next_warning = time.monotonic() + PAUSE
                    log.warning("list %s: not fetched from the cluster, the old version stays: %s", word, error)
                return
            log.info("list %s: %d names, fetched from the cluster", word, version.names)
        take(word, version)

    def _whole(self, version: Version) -> bytes:
        """Raises ValueError when it is incomplete, or not the announced version."""
        if not 0 < version.octets <= MOST_OCTETS:
            raise ValueError(f"it is announced with {version.octets} octets, which is too long")
        parts = bytearray()
        for number in range(-(-version.octets // PART)):
            self._breathe()
            with redis_errors():
                part = self._browser.redis.getrange(part_key(self._names, version.check, number), 0, PART)
            parts += part
        data = bytes(parts)
        if len(data) != version.octets or hashlib.blake2b(data, digest_size=16).hexdigest() != version.check:
            raise ValueError("it is no longer there, or not the announced version")
        read_compiled(data)[1].check()
        return data

    def _publish(self, offered: Mapping[str, Version]) -> None:
        for version in offered.values():
            self._upload(version)

        def changed(document: PolicyDocument) -> Mapping[str, object]:
            lists = dict(document.lists)
            for word, version in offered.items():
                if _to_be_published(version, lists.get(word)):
                    lists[word] = version
            return {"lists": lists}

        before, proof = self._orders.change(changed, self.proves)
        for word, version in offered.items():
            self._expire(before.lists.get(word))
            log.info("%s: %d names, version %s is now used by the cluster%s", word, version.names, version.digest[:8],
                     f"; confirmed by {proof}" if self.proves else "")  # fmt: skip
        for problem in proof.problems if self.proves else ():
            log.warning("not all workers use the new lists yet: %s", problem)

    def _upload(self, version: Version) -> None:
        data = self._shelf.map(version.digest)
        with redis_errors():
            for number in range(-(-version.octets // PART)):
                self._breathe()
                part = data[number * PART : (number + 1) * PART]
                self._browser.redis.set(part_key(self._names, version.check, number), part)

    def _restore_parts(self, document: PolicyDocument, ours: Mapping[str, Version]) -> None:
        """Store parts again that Redis has evicted."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + PAUSE
        for word, theirs in document.lists.items():
            mine = ours.get(word)
            if mine is None or mine.check != theirs.check:
                continue
            last = -(-mine.octets // PART) - 1
            with redis_errors():
                there = [self._browser.redis.exists(part_key(self._names, mine.check, each)) for each in {0, last}]
            if not all(there):
                log.info("list %s: parts are missing from Redis and are stored again", word)
                self._upload(mine)

    def _expire(self, version: Version | None) -> None:
        if version is None or not 0 < version.octets <= MOST_OCTETS:
            return
        with redis_errors():
            for number in range(-(-version.octets // PART)):
                self._browser.redis.pexpire(part_key(self._names, version.check, number), UNANNOUNCED * 1000)

    def may_transfer(self, word: str) -> bool:
        """Whether this node has to transfer a zone: no other does so, or has done so recently. Without Redis every node
        does."""
        try:
            with redis_errors():
                return bool(self._browser.redis.set(fetch_key(self._names, word), b"", nx=True, ex=FETCHING))
        except StoreDown:
            return True

    def transferred(self, word: str, pause: float, expire: float) -> None:
        """Note that a zone is due again after `pause` seconds; and, unless `expire` is 0, that it is valid for that
        long."""
        try:
            with redis_errors():
                self._browser.redis.set(fetch_key(self._names, word), b"", px=round(pause * 1000))
                if expire:
                    self._browser.redis.set(fetch_key(self._names, word + HOLDS), b"", ex=max(round(expire), 1))
        except StoreDown as error:
            log.debug(
                "the time of the next transfer is not in Redis, so nodes may transfer the zone more often: %s", error
            )

    def holds(self, word: str) -> bool:
        """Whether the server has recently confirmed a zone to any node."""
        try:
            with redis_errors():
                return bool(self._browser.redis.exists(fetch_key(self._names, word + HOLDS)))
        except StoreDown:
            return False

    def may_fetch(self, source: ListSource, refresh: float, first: bool) -> bool:
        """Whether this node has to fetch a list. Without Redis it does."""
        try:
            with redis_errors():
                return bool(self._browser.redis.set(fetch_key(self._names, source.word), b"", nx=True, ex=FETCHING))
        except StoreDown:
            return first

    def fetch_again(self, source: ListSource, seconds: float) -> None:
        """Note that a node has to fetch it again after this many seconds."""
        try:
            with redis_errors():
                self._browser.redis.pexpire(fetch_key(self._names, source.word), round(seconds * 1000))
        except StoreDown as error:
            log.debug(
                "the time of the next download is not in Redis, so nodes may fetch the list more often: %s", error
            )


def _to_be_published(version: Version, theirs: Version | None) -> bool:
    return theirs is None or (version.digest != theirs.digest and newer(version, theirs) is version)
