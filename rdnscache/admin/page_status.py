"""The content of the live page as plain data: the cluster as its workers report it, its last hour, its clients, sampled
queries, the entries of a name, the options of a node."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from typing import Any

from gevent.lock import BoundedSemaphore

from rdnscache.admin.query_search import search
from rdnscache.breath import Breath
from rdnscache.config import Config, options
from rdnscache.config_text import plain, toml_name
from rdnscache.dns.names import question_text
from rdnscache.errors import StoreDown
from rdnscache.metrics import Board
from rdnscache.operator import cluster_status as status
from rdnscache.operator import traffic
from rdnscache.operator.entries import Browser, View
from rdnscache.operator.hours import minutes_until, of_cluster, of_node, series
from rdnscache.operator.lookup import lookup
from rdnscache.operator.members import Members
from rdnscache.operator.redis_memory import redis_memory
from rdnscache.operator.told import as_dict
from rdnscache.store.membership import Member
from rdnscache.store.seal import Seal

#: Seconds for which results are reused: the status of the cluster, the memory of Redis, and the last hour.
FRESH, MEMORY_FRESH, HOUR_FRESH = 1.0, 5.0, 15.0
#: Lines of each list.
HOT, SLOW = 20, 20
#: Most workers shown; for larger clusters there is `rdnscache cluster status`.
MAX_MEMBERS = 1000


class PageStatus:
    """Without Redis, or while it is away, only this node is shown, from the reports of its workers on the board."""

    def __init__(self, config: Config, redis_url: str | None, board: Board, seal: Seal | None) -> None:
        self._config = config
        self._node = config.node_id
        self._board = board
        self._browser = Browser(redis_url, config.prefix, seal, Breath().take) if redis_url is not None else None
        self._last = self._clients = self._hour = b""
        self._looked = self._hour_at = self._memory_at = -HOUR_FRESH
        self._hour_until = 0
        self._memory: dict[str, Any] = {}
        self._looking = BoundedSemaphore(1)

    def cluster(self) -> bytes:
        """Nodes, the history of their answers, the hottest names and the latest slow queries, as JSON.

        Computed once at a time, and at most once a second.
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
            browser, cluster = self.tools("there is none")
            members, more = cluster.some_members(MAX_MEMBERS)
            hot = cluster.hottest(HOT)
            self._look_at_memory(browser)
        except StoreDown as error:
            members, problem, self._memory = self._own_members(), str(error), {}
        nodes = []
        for node in status.summarize(members, breathe):
            nodes.append(json.dumps(node.as_json()))
            breathe()
        rest = {
            "time": time.time(),
            "node": self._node,
            "redis": problem or "ok",
            "more": f"{more} more workers are registered in Redis than the {len(members)} shown here." if more else "",
            "can_flush": bool(self._config.admin_token),
            "readers_look_up": bool(self._config.admin_read_token),
            "shows_clients": self._config.admin_clients,
            "one_of": self._config.admin_sample,
            "history": status.history(members, breathe),
            "rcodes": traffic.rcodes(members, breathe),
            "types": traffic.types(members, breathe),
            "latency": traffic.latency(members, breathe),
            "redis_memory": self._memory,
            "hot": [{"question": question_text(key), "qps": round(rate, 2)} for key, rate in hot],
            "slow": status.slow(members, SLOW, breathe),
        }
        self._clients = json.dumps({"node": self._node, "redis": problem or "ok"} | traffic.clients(members)).encode()
        while members:  # freed one by one: freeing all reports at once would take 20 ms
            members.pop()
            breathe()
        head = json.dumps(rest)[:-1]
        breathe()
        return f'{head}, "nodes": [{", ".join(nodes)}]}}'.encode()

    def _look_at_memory(self, browser: Browser) -> None:
        """Raises StoreDown."""
        if time.monotonic() - self._memory_at >= MEMORY_FRESH:
            self._memory = redis_memory(browser.redis)
            self._memory_at = time.monotonic()

    def tools(self, without: str) -> tuple[Browser, Members]:
        """Raises StoreDown when there is no Redis, with the text `without`, or when a Redis Cluster cannot be
        reached."""
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
        """The entries of a name in the cluster. Raises ValueError for an invalid name, and StoreDown."""
        tools = self.tools("there is no shared cache to look into")
        return {"entries": [_plain(view) for view in lookup(*tools, name, rtype)]}

    def hour(self) -> bytes:
        """The counts of each minute of the last hour as JSON: of the cluster, or of this node alone while Redis is
        away."""
        wanted = minutes_until(time.time())
        with self._looking:
            if self._hour_until != wanted.stop or time.monotonic() - self._hour_at >= HOUR_FRESH:
                self._hour = self._look_back(wanted)
                self._hour_until, self._hour_at = wanted.stop, time.monotonic()
            return self._hour

    def _look_back(self, wanted: range) -> bytes:
        breathe, problem = Breath().take, ""
        try:
            browser, _ = self.tools("there is none")
            minutes = of_cluster(browser.redis, browser.names, wanted, breathe)
        except StoreDown as error:
            minutes, problem = of_node(self._board.hours(), breathe), str(error)
        return json.dumps({"node": self._node, "redis": problem or "ok"} | series(minutes, wanted)).encode()

    def clients(self) -> bytes:
        """The busiest clients, those denied and those limited, as JSON."""
        self.cluster()
        return self._clients

    def queries(self, text: str) -> bytes:
        """The sampled queries of this node that contain these words, as JSON."""
        found = search(self._board.rings, text, Breath().take)
        return json.dumps({"node": self._node, "one_of": self._config.admin_sample} | found).encode()

    def options(self, node: str) -> bytes:
        """The options of a node as JSON, with secrets masked. Raises ValueError when there is no node of that name."""
        try:
            _, cluster = self.tools("there is none")
            members = cluster.members()
        except StoreDown:
            members = self._own_members()
        found = [each for each in members if (node or self._node) in (each.node, each.full_name)]
        if not found:
            raise ValueError(f"no node is called {node}")
        latest = min(found, key=lambda each: each.age)
        parts = (latest.told.get("own"), latest.told.get("config"))
        values = {name: value for part in parts for name, value in as_dict(part).items()}
        usual = {toml_name(option): plain(option, option.default) for option in options()}
        told = [{"option": name, "value": value, "default": name in usual and usual[name] == value}
                for name, value in sorted(values.items())]  # fmt: skip
        return json.dumps({"node": latest.node, "options": told}).encode()


def _plain(view: View) -> dict[str, Any]:
    """Like `dataclasses.asdict`, but without copying every list."""
    return {each.name: getattr(view, each.name) for each in fields(view)}
