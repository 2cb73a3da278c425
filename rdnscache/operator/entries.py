"""The entries in Redis, as operators list and delete them."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

from rdnscache.breath import Breathe, go_on
from rdnscache.dns.message import answer_lines
from rdnscache.dns.names import name_text, question_text, rcode_number
from rdnscache.dns.wire import parse_reply
from rdnscache.errors import StoreDown
from rdnscache.operator import pages
from rdnscache.operator.counting import SAMPLE, SIGNED_SAMPLE, Counts, count
from rdnscache.operator.redis_clients import connect, has_slots, line, primaries, redis_errors, slotted, some_primary
from rdnscache.operator.snapshot_lines import Stored
from rdnscache.printable import printable
from rdnscache.redis_url import parse
from rdnscache.store.complaint import may_not, sentence
from rdnscache.store.contract import FLUSHED, Names
from rdnscache.store.decoding import decode
from rdnscache.store.odd import guessable, guesses, in_slot, listed
from rdnscache.store.patterns import glob_escape
from rdnscache.store.scope import Scope
from rdnscache.store.seal import Seal
from rdnscache.store.slots import tag_of
from rdnscache.store.steering import LONGEST_FLUSH, MOST_UNDER_WAY, NEWEST, UNDER_WAY
from rdnscache.store.sweeping import CAREFUL, CONFIRMED, PAGE, Swept, Where, sweep
from rdnscache.store.under_way import UnderWay

TIMEOUT = 5.0
#: How often deletion is restarted when servers fail or change, and the pause before that in seconds.
ATTEMPTS, PAUSE = 3, 0.3
#: The state of an entry that no node would accept.
NOT_SIGNED = "not signed"

_INFO_PAIR = re.compile(r"(\w+)=(\S*)")


@dataclass(frozen=True, slots=True)
class View:
    """One entry as it is shown; times in seconds. `l1` lists the local caches with it: node, worker, state, times."""

    key: str
    question: str
    rcode: str
    ttl_left: int
    age: int
    state: str
    stored: str
    source: str
    node: str
    answer: list[str]
    #: The zone whose upstreams were asked; empty for the usual ones.
    route: str = ""
    l1: list[dict[str, Any]] = field(default_factory=list)


class Browser:
    """Finds and deletes entries. Every method raises StoreDown when Redis cannot be used.

    `breathe` is called between entries that are decoded.
    """

    def __init__(self, url: str, prefix: str, seal: Seal | None = None, breathe: Breathe = go_on) -> None:
        self.names = Names(prefix)
        self._breathe = breathe
        #: With it, entries that no node would accept can be recognized.
        self.seal = seal
        #: Whether answers are shown in full, from the wire; the text in Redis ends after `text.MOST_RECORDS`.
        self.whole = False
        self._redis_url = parse(url)
        #: Flushes whose entries may still be in Redis, as of the last look: they are nobody's any more.
        self._gone = UnderWay()

    @cached_property
    def redis(self) -> Any:
        """A client. For a cluster it connects when it is first used."""
        with redis_errors():
            return connect(self._redis_url, TIMEOUT)

    def _look(self) -> None:
        """See which flushes are under way."""
        self._gone = UnderWay()
        with redis_errors():
            self._gone.take(
                self.redis.eval(UNDER_WAY.source.decode(), 1, self.names.flushing, 2 * MOST_UNDER_WAY, LONGEST_FLUSH)
            )

    def last_event(self) -> bytes:
        """The ID of the newest control event; empty where there is none."""
        with redis_errors():
            told = self.redis.eval(NEWEST.source.decode(), 1, self.names.control, 1)
        return bytes(told[0]) if isinstance(told, list) and told else b""

    def _stands(self, key: str, info: Any) -> bool:
        """Whether no flush that is under way means an entry."""
        question = self.names.question(key) if isinstance(info, bytes) else None
        if question is None:
            return True
        word = info.partition(b" ")[0].removeprefix(b"rcode=").decode("ascii", "replace")
        try:
            return not self._gone.refuses(question, rcode_number(word), info)
        except ValueError:
            return True

    def find(self, name_pattern: str, rtype: str = "") -> Iterator[View]:
        """The entries whose name matches a pattern (see `contract.pattern_text`), of one type or of all."""
        pattern = f"{glob_escape(self.names.root)}{{{name_pattern}}}:{rtype or '*'}{'*' if rtype else ''}"
        fields = self._shown()
        for page in self.walk(pattern, *fields):
            for key, left, values in page:
                if not rtype or _type_of(key) == rtype:
                    yield from self._seen(key, values, left)

    def of_name(self, name: bytes, kinds: Collection[str] = (), search: bool = False) -> Iterator[View]:
        """The entries of one name, of these types or of all, looked up by their keys.

        With `search` all keys are scanned if there may be further entries whose keys cannot be derived.
        """
        self._look()
        likely = self._likely_keys(name)
        if likely is None and search:
            for each in kinds or ("",):
                yield from self.find(glob_escape(name_text(name)), each)
            return
        found = (
            key
            for key in (guesses(self.names, name, ()) if likely is None else likely)
            if not kinds or _type_of(key) in kinds
        )
        while keys := list(dict.fromkeys(islice(found, PAGE))):
            with redis_errors():
                pipeline = self.redis.pipeline(transaction=False)
                for key in keys:
                    pipeline.exists(key)
                there: list[Any] = pipeline.execute(raise_on_error=False)
            held = [key for key, found in zip(keys, there, strict=True) if found == 1]
            if held:
                yield from self._views(held)

    def _likely_keys(self, name: bytes) -> Sequence[str] | None:
        """The keys that entries of a name may have; None when not all can be derived."""
        with redis_errors():
            if has_slots(self.redis):
                node = self.redis.get_node_from_key(self.names.entries_of(name).encode())
                with line(self.redis.get_redis_connection(node)) as one:
                    return in_slot(one.ask, self.names, name)
            with line(self.redis) as one:
                known = listed(one.ask, self.names)
        return None if known is None else list(guesses(self.names, name, known))

    def count(self) -> int:
        """About how many keys there are, ours and others'."""
        with redis_errors():
            servers = primaries(self.redis)
        return sum(map(self._size, servers))

    def _size(self, server: Any) -> int:
        with redis_errors():
            return int(server.dbsize())

    def try_rights(self, scope: Scope) -> None:
        """Check that we have the permissions for a sweep, with keys that belong to nobody. Raises StoreDown if not."""
        key = self.names.probe()
        commands = [(b"UNLINK", key), (b"SET", key, FLUSHED, b"XX"), (b"SCAN", b"0", b"COUNT", b"1")]
        if scope.rcode is not None:
            commands.append((b"HMGET", key, b"info"))
        with redis_errors(), line(some_primary(self.redis)) as one:
            for told in one.ask(*commands):
                if isinstance(told, Exception) and may_not(told):
                    raise StoreDown(f"nothing has been flushed: {sentence(told)}")

    def apart(self) -> Browser:
        """The same with connections of its own, for another process."""
        other = copy(self)
        vars(other).pop("redis", None)
        return other

    def of_version(self, version: str) -> Browser:
        """The same for entries of another version of the contract."""
        other = copy(self)
        other.names = self.names.of(version)
        return other

    def sweep(self, scope: Scope, flush: bytes = b"", steps: Sequence[bytes] = CAREFUL) -> Iterator[Swept]:
        """Delete the entries a scope holds from Redis, step by step; see `sweeping.sweep` for the order of `steps`.

        What was stored by who had heard of the event `flush` may be left.

        A server whose connection is lost meanwhile is swept again. In a Redis Cluster each primary is marked as swept
        for the flush, and checked again at the end: one that took over meanwhile may still have deleted entries.
        """
        done: set[int | None] = set()
        for left in reversed(range(ATTEMPTS)):
            begun = False
            try:
                with redis_errors():
                    servers = slotted(self.redis)
                for server, slot in servers:
                    for step in self._sweep(server, slot, scope, flush, done, steps):
                        begun = True
                        self._breathe()
                        yield step
                if not begun or not flush or not has_slots(self.redis):
                    return
            except StoreDown:
                if not left:
                    raise
                time.sleep(PAUSE)

    def _sweep(
        self, server: Any, slot: int | None, scope: Scope, flush: bytes, done: set[int | None], steps: Sequence[bytes]
    ) -> Iterator[Swept]:
        """Sweep one server, unless that has been done."""
        mark = self.names.swept(tag_of(slot)) if slot is not None and flush else b""
        with redis_errors(), line(server) as one:
            if mark:
                from rdnscache.store.marks import read, write
            if flush in read(one.ask, mark) if mark else slot in done:
                return
            where = Where.INDEX if slot is None else Where.SLOT
            if slot is not None and steps == CONFIRMED:  # what somebody has confirmed may overtake what he had sent
                steps = CAREFUL
            yield from sweep(one.ask, self.names, scope, PAGE, self._elsewhere, where, steps, flush)
            done.add(slot)
            if mark:
                write(one.ask, mark, [flush])

    def _elsewhere(self, *commands: Sequence[Any]) -> list[Any]:
        """Commands about keys that have just been moved to another primary."""
        return [self.redis.execute_command(*command) for command in commands]

    def flush(self, scope: Scope) -> int:
        """The same in one go; returns how many were deleted in all."""
        return sum(step.deleted for step in self.sweep(scope))

    def read(self, keys: list[str], *fields: str) -> Iterator[tuple[str, Any, Any]]:
        """For each key, these fields of its hash and its PTTL; or the error of Redis."""
        with redis_errors():
            pipeline = self.redis.pipeline(transaction=False)
            for key in keys:
                pipeline.hmget(key, *fields)
                pipeline.pttl(key)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        yield from zip(keys, replies[::2], replies[1::2], strict=True)

    def note_odd(self, entries: Sequence[Stored]) -> None:
        """Called before entries are stored: list those whose keys cannot be derived."""
        odd = {key: left for key, question, left, *_ in entries if not guessable(question)}
        if not odd or has_slots(self.redis):
            return
        with redis_errors():
            seconds = int(self.redis.execute_command("TIME")[0])
            longest = max(*odd.values(), self.redis.pttl(self.names.odd))
            told = [part for key, left in odd.items() for part in (seconds + left / 1000 + 1, key)]
            self.redis.execute_command("ZADD", self.names.odd, *told)
            self.redis.pexpire(self.names.odd, longest + 1000)

    def walk(self, pattern: str, *fields: str) -> Iterator[pages.Page]:
        """The hashes whose keys fit a pattern, of one primary after the other: key, ms left, fields, first `info`."""
        self._look()
        with redis_errors():
            servers = primaries(self.redis)
        for server in servers:
            yield from self._pages(server, pattern, *fields)

    def _pages(self, server: Any, pattern: str, *fields: str) -> Iterator[pages.Page]:
        found = pages.read(server, pattern, *fields)
        while True:
            with redis_errors():
                page = next(found, None)
            if page is None:
                return
            if self._gone:
                page[:] = [row for row in page if self._stands(row[0], row[2][0])]
            yield page

    def counts(self, zone: bytes | None = None, sample: bool = True) -> Iterator[Counts]:
        """The number of entries, in all or of a zone; yields the result so far, step by step.

        With `sample` it is estimated if there are many and we may ask how many. With a secret, the signature of each
        examined entry is checked.
        """
        self._look()
        most = SAMPLE if self.seal is None and not self._gone else SIGNED_SAMPLE
        with redis_errors():
            servers = primaries(self.redis)
        try:
            sizes = [self._size(server) if sample else 0 for server in servers]
        except StoreDown as error:
            if not may_not(str(error)):
                raise
            sizes = [0] * len(servers)
        counts = Counts(keys=sum(sizes), exact=sum(sizes) <= most)
        for server, size in zip(servers, sizes, strict=True):
            share = 0 if counts.exact else math.ceil(most * size / counts.keys)
            for looked, found in self._counted(server, zone, share):
                counts.looked += looked
                counts.found += found
                yield counts

    def _counted(self, server: Any, zone: bytes | None, most: int) -> Iterator[tuple[int, Counter[Any]]]:
        if self.seal is None and not self._gone:
            with redis_errors():
                yield from count(server, self.names.root + "{", "" if zone is None else name_text(zone), most)
            return
        looked, means = 0, Scope(zone=zone).in_words()
        for page in self._pages(server, "*", *self._shown()):
            looked += page.keys
            rows = (row for row in page if means.holds(self.names.words(row[0])))
            views = (view for key, left, fields in rows for view in self._seen(key, fields, left))
            yield page.keys, Counter((_type_of(view.key), view.rcode, view.state) for view in views)
            if most and looked >= most:
                return

    def _shown(self) -> tuple[str, ...]:
        return ("info", "answer", "wire", "mac") if self.seal or self.whole else ("info", "answer")

    def _views(self, keys: list[str]) -> Iterator[View]:
        for key, fields, left in self.read(keys, *self._shown()):
            if self._gone and isinstance(fields, list) and not self._stands(key, fields[0]):
                continue
            yield from self._seen(key, fields, left)

    def _seen(self, key: str, fields: Any, left: Any) -> Iterator[View]:
        view = self._view(key, fields, left)
        if view is not None:
            yield self._checked(view, fields, left) if len(fields) > 2 else view
        self._breathe()

    def _checked(self, view: View, fields: list[Any], left_ms: int) -> View:
        """Adds the text of the answer as nodes would send it; those they would not accept are `not signed`."""
        info, _, wire, mac = fields
        reply = parse_reply(wire or b"")
        if self.seal is not None and (reply is None or self.problem(view.key, info, wire, mac, left_ms)):
            return replace(view, state=NOT_SIGNED)
        return view if reply is None else replace(view, answer=answer_lines(reply, self.whole))

    def believed(self, key: str, info: Any, wire: Any, mac: Any, left_ms: int) -> bool:
        """Whether nodes would accept an entry, as far as we can tell: without a secret all are accepted."""
        return self.seal is None or not self.problem(key, info, wire, mac, left_ms)

    def problem(self, key: str, info: Any, wire: Any, mac: Any, left_ms: int) -> str:
        """Why nodes would not accept an entry; empty when they would, or when we lack their secret to tell.

        Values that are not entries at all are not covered.
        """
        question = self.names.question(key)
        entry = decode(question, info, wire, left_ms, 0.0) if question else None
        if self.seal is None or entry is None:
            return ""
        return self.seal.problem(key.encode(), info, wire, mac, -entry.stored, time.time())

    def _view(self, key: str, fields: Any, left_ms: Any) -> View | None:
        """None for a key that has expired meanwhile, or is not an entry."""
        question = self.names.question(key)
        if question is None or not pages.is_row(fields, left_ms) or not isinstance(fields[0], bytes):
            return None
        info = dict(_INFO_PAIR.findall(printable(fields[0].decode("utf-8", "replace"))))
        ttl, stale = (int(info.get(name, "")[:9]) if info.get(name, "").isdecimal() else 0 for name in ("ttl", "stale"))
        left = left_ms // 1000 - stale
        return View(
            key=key,
            question=question_text(question),
            rcode=info.get("rcode", "?"),
            ttl_left=max(left, 0),
            age=max(ttl - left, 0),
            state="fresh" if left_ms > stale * 1000 else "stale",
            stored=info.get("stored", "?"),
            source=info.get("from", "?"),
            node=info.get("node", "?"),
            route=info.get("route", ""),
            answer=[printable(line) for line in (fields[1] or b"").decode("utf-8", "replace").split("\n") if line],
        )


def _type_of(key: str) -> str:
    return key.rpartition("}:")[2].partition(":")[0]
