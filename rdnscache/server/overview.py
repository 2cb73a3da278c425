"""What the live page shows, as plain data: the cluster as its workers tell of it, what is held of a name, a flush."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from rdnscache import status
from rdnscache.dns.names import parse_name, question_text
from rdnscache.errors import StoreDown
from rdnscache.metrics import Board
from rdnscache.store.browse import Browser
from rdnscache.store.cluster import Cluster
from rdnscache.store.flushing import Flush
from rdnscache.store.lookup import lookup
from rdnscache.store.members import Member
from rdnscache.store.scope import Scope
from rdnscache.store.seal import Seal

#: Seconds for which one look at the cluster serves everybody who asks; for the workers to confirm a flush.
FRESH, FLUSH_PATIENCE = 1.0, 2.0
#: Lines of the lists.
HOT, SLOW = 20, 20


class Overview:
    """Without Redis, or while it is away, this node alone is shown, from what its workers leave on the board."""

    def __init__(self, node: str, redis_url: str | None, prefix: str, board: Board, seal: Seal | None) -> None:
        self._node = node
        self._board = board
        self._browser = Browser(redis_url, prefix, seal) if redis_url is not None else None
        self._last: dict[str, Any] = {}
        self._looked = -FRESH

    def cluster(self) -> dict[str, Any]:
        """Nodes, the history of their answers, the hottest names and the latest slow queries."""
        now = time.monotonic()
        if now - self._looked >= FRESH:
            self._looked = now
            self._last = self._look()
        return self._last

    def _look(self) -> dict[str, Any]:
        problem, hot = "", []
        try:
            _, cluster = self._places("there is none")
            members = cluster.members()
            hot = cluster.hottest(HOT)
        except StoreDown as error:
            members, problem = self._own_members(), str(error)
        return {
            "time": time.time(),
            "node": self._node,
            "redis": problem or "ok",
            "nodes": [node.as_json() for node in status.summarize(members)],
            "history": status.history(members),
            "hot": [{"question": question_text(key), "qps": round(rate, 2)} for key, rate in hot],
            "slow": status.slow(members, SLOW),
        }

    def _places(self, without: str) -> tuple[Browser, Cluster]:
        """Raises StoreDown: `without` when there is no Redis; or when a Redis Cluster cannot be reached."""
        if self._browser is None:
            raise StoreDown(without)
        return self._browser, Cluster(self._browser.redis, self._browser.names)

    def _own_members(self) -> list[Member]:
        found = []
        for worker, text in enumerate(self._board.told()):
            if text:
                told = json.loads(text)
                found.append(Member(self._node, told["incarnation"], worker, time.time() - told["time"], told))
        return found

    def lookup(self, name: str, rtype: str) -> dict[str, Any]:
        """What the cluster holds of a name. Raises ValueError for what is none, StoreDown."""
        return {
            "entries": [
                asdict(view) for view in lookup(*self._places("there is no shared cache to look into"), name, rtype)
            ]
        }

    def flush(self, told: Any) -> dict[str, Any]:
        """Make the cluster forget `name`, `zone`, `type`, `rcode`, or with `all` everything, and say who confirmed.

        Raises ValueError for what cannot be read, StoreDown.
        """
        browser, cluster = self._places("there is no shared cache to flush")
        if not isinstance(told, dict):
            raise ValueError("a JSON object is wanted")
        scope = Scope.of(told, parse_name)
        if scope.everything != (told.get("all") is True):
            raise ValueError("give a name, a zone or an rcode; or all alone")
        flush = Flush(browser, cluster, scope, FLUSH_PATIENCE)
        proof = flush.run()
        return {"flushed": str(scope), "entries": flush.deleted, "complete": proof.complete} | proof.as_json()
