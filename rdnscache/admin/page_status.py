"""What the live page shows, as plain data: the cluster as its workers tell of it, what is held of a name, a flush."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from typing import Any

from gevent.lock import BoundedSemaphore

from rdnscache.breath import Breath
from rdnscache.dns.names import parse_name, question_text
from rdnscache.errors import StoreDown
from rdnscache.metrics import Board
from rdnscache.operator import cluster_status as status
from rdnscache.operator.entries import Browser, View
from rdnscache.operator.flush import Flush
from rdnscache.operator.lookup import lookup
from rdnscache.operator.members import Members
from rdnscache.operator.policy_orders import PolicyOrders
from rdnscache.store.membership import Member
from rdnscache.store.policy_document import LONGEST_PAUSE, UNTIL_RESUMED
from rdnscache.store.scope import Scope
from rdnscache.store.seal import Seal

#: Seconds for which one look at the cluster serves everybody who asks; for the workers to confirm a flush.
FRESH, FLUSH_PATIENCE = 1.0, 2.0
#: Lines of the lists.
HOT, SLOW = 20, 20
#: Workers that are shown; a cluster that has more is looked at with `rdnscache cluster status`.
MAX_MEMBERS = 1000


class PageStatus:
    """Without Redis, or while it is away, this node alone is shown, from what its workers leave on the board."""

    def __init__(
        self, node: str, redis_url: str | None, prefix: str, board: Board, seal: Seal | None, can_flush: bool
    ) -> None:
        self._node = node
        self._can_flush = can_flush
        self._board = board
        self._browser = Browser(redis_url, prefix, seal, Breath().take) if redis_url is not None else None
        self._last = b""
        self._looked = -FRESH
        self._looking = BoundedSemaphore(1)

    def cluster(self) -> bytes:
        """Nodes, the history of their answers, the hottest names and the latest slow queries, as JSON.

        One look at a time, and one in a second.
        """
        with self._looking:
            if time.monotonic() - self._looked >= FRESH:
                self._last = self._look()
                self._looked = time.monotonic()
            return self._last

    def _look(self) -> bytes:
        problem, more, hot = "", 0, []
        breathe = Breath().take
        try:
            _, cluster = self._tools("there is none")
            members, more = cluster.some_members(MAX_MEMBERS)
            hot = cluster.hottest(HOT)
        except StoreDown as error:
            members, problem = self._own_members(), str(error)
        nodes = []
        for node in status.summarize(members, breathe):
            nodes.append(json.dumps(node.as_json()))
            breathe()
        rest = {
            "time": time.time(),
            "node": self._node,
            "redis": problem or "ok",
            "more": f"{more} workers more are registered in Redis than the {len(members)} shown here." if more else "",
            "can_flush": self._can_flush,
            "history": status.history(members, breathe),
            "hot": [{"question": question_text(key), "qps": round(rate, 2)} for key, rate in hot],
            "slow": status.slow(members, SLOW, breathe),
        }
        while members:  # what they told goes one by one: all at once would take 20 ms
            members.pop()
            breathe()
        head = json.dumps(rest)[:-1]
        breathe()
        return f'{head}, "nodes": [{", ".join(nodes)}]}}'.encode()

    def _tools(self, without: str) -> tuple[Browser, Members]:
        """Raises StoreDown: `without` when there is no Redis; or when a Redis Cluster cannot be reached."""
        if self._browser is None:
            raise StoreDown(without)
        return self._browser, Members(self._browser.redis, self._browser.names, Breath().take)

    def _own_members(self) -> list[Member]:
        found = []
        for worker, text in enumerate(self._board.told()):
            if text:
                told = json.loads(text)
                found.append(Member(self._node, told["incarnation"], worker, time.time() - told["time"], told))
        return found

    def lookup(self, name: str, rtype: str) -> dict[str, Any]:
        """What the cluster holds of a name. Raises ValueError for an invalid name, StoreDown."""
        tools = self._tools("there is no shared cache to look into")
        return {"entries": [_plain(view) for view in lookup(*tools, name, rtype)]}

    def flush(self, told: Any) -> dict[str, Any]:
        """Make the cluster forget `name`, `zone`, `type`, `rcode`, or with `all` everything, and say who confirmed.

        Raises ValueError for what cannot be read, StoreDown.
        """
        browser, cluster = self._tools("there is no shared cache to flush")
        if not isinstance(told, dict):
            raise ValueError("a JSON object is wanted")
        if any("*" in str(told.get(name, "")) for name in ("name", "zone")):
            raise ValueError("'*' is no pattern here: flush a zone for all below a name; in a name it is \\042")
        scope = Scope.of(told, parse_name)
        if scope.everything != (told.get("all") is True):
            raise ValueError("give a name, a zone or an rcode; or all alone")
        flush = Flush(browser, cluster, scope, FLUSH_PATIENCE)
        proof = flush.run()
        return {"flushed": str(scope), "entries": flush.deleted, "complete": proof.complete} | proof.as_json()

    def blocking(self, told: Any) -> dict[str, Any]:
        """Pause blocking on all nodes for `pause` seconds; until somebody resumes with true, and not any more with 0.

        Raises ValueError for what cannot be read, StoreDown.
        """
        browser, cluster = self._tools("there is no Redis through which others could be told")
        pause = told.get("pause") if isinstance(told, dict) else None
        if pause is not True and not (isinstance(pause, int) and 0 <= pause <= LONGEST_PAUSE):
            raise ValueError(f"pause is true, or seconds up to {LONGEST_PAUSE}")
        until = UNTIL_RESUMED if pause is True else time.time() + pause if pause else 0.0
        _, proof = PolicyOrders(browser, lambda: cluster, FLUSH_PATIENCE).change(lambda _: {"paused_until": until})
        done = "Blocking is paused" if until else "Blocking is resumed"
        return {"done": done, "complete": proof.complete} | proof.as_json()


def _plain(view: View) -> dict[str, Any]:
    """What `dataclasses.asdict` gives, which copies every list in it."""
    return {each.name: getattr(view, each.name) for each in fields(view)}
