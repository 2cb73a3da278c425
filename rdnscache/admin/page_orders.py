"""Orders from the live page: flush, pause blocking, reload, restart, forget a node."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from rdnscache.dns.names import parse_name
from rdnscache.errors import StoreDown
from rdnscache.operator.entries import Browser
from rdnscache.operator.flush import Flush
from rdnscache.operator.members import Members
from rdnscache.operator.orders import named
from rdnscache.operator.policy_orders import PolicyOrders
from rdnscache.printable import natural
from rdnscache.store.membership import LONGEST_NAME
from rdnscache.store.patterns import refuse_patterns
from rdnscache.store.policy_document import LONGEST_PAUSE, UNTIL_RESUMED
from rdnscache.store.scope import Scope

#: Seconds for the workers to confirm a flush, and within which a running node answers.
FLUSH_PATIENCE, ANSWERS = 2.0, 1.0

#: The shared cache and its members; raises StoreDown with the given text when there is none.
Tools = Callable[[str], tuple[Browser, Members]]


class PageOrders:
    """Each method takes the JSON that was sent; ValueError for input that cannot be read, StoreDown without Redis.

    `order` passes an order to the supervisor of our own node, with the ID of the event that gave it.
    """

    def __init__(self, node: str, tools: Tools, order: Callable[[str, str], None]) -> None:
        self._node = node
        self._tools = tools
        self._order_own = order

    def flush(self, told: Any) -> dict[str, Any]:
        """Flush `name`, `zone`, `type`, `rcode`, or with `all` everything, in the whole cluster; returns who
        confirmed."""
        browser, cluster = self._tools("there is no shared cache to flush")
        told = _object(told)
        names = [name for name in (told.get("name"), told.get("zone")) if isinstance(name, str)]
        refuse_patterns(names, "a zone is a name and all below it")
        scope = Scope.of(told, parse_name)
        if scope.everything != (told.get("all") is True):
            raise ValueError("give a name, a zone or an rcode; or all alone")
        flush = Flush(browser, cluster, scope, FLUSH_PATIENCE)
        proof = flush.run()
        return {
            "flushed": str(scope),
            "entries": flush.deleted,
            "left_to_nodes": not flush.swept,
            "complete": proof.complete,
        } | proof.as_json()

    def blocking(self, told: Any) -> dict[str, Any]:
        """Pause blocking on all nodes for `pause` seconds; true pauses it until it is resumed, 0 resumes it."""
        browser, cluster = self._tools("there is no Redis through which others could be told")
        pause = told.get("pause") if isinstance(told, dict) else None
        if pause is not True and not (isinstance(pause, int) and 0 <= pause <= LONGEST_PAUSE):
            raise ValueError(f"pause is true, or seconds up to {LONGEST_PAUSE}")
        until = UNTIL_RESUMED if pause is True else time.time() + pause if pause else 0.0
        _, proof = PolicyOrders(browser, lambda: cluster, FLUSH_PATIENCE).change(lambda _: {"paused_until": until})
        done = "Blocking is paused" if until else "Blocking is resumed"
        return {"done": done, "complete": proof.complete} | proof.as_json()

    def reload(self, told: Any) -> dict[str, Any]:
        """Make `node`, or all nodes, read their configuration again."""
        return self._order("reload", told)

    def restart(self, told: Any) -> dict[str, Any]:
        """Make `node`, or all nodes, restart on the sockets they have."""
        return self._order("restart", told)

    def _order(self, what: str, told: Any) -> dict[str, Any]:
        """Send the order without waiting for it: workers end meanwhile, this one too. Nodes report the result as
        `order`.

        Our own node can be reached without Redis.
        """
        node = _node(told) if "node" in _object(told) else None
        try:
            _, cluster = self._tools("there is no Redis through which others could be told")
            nodes = named(cluster.members(), node)
            if not nodes:
                raise ValueError("no node is there" if node is None else f"no node is called {node}")
            target = None if node is None else min(life[0] for life in nodes)
            event = cluster.announce({"event": what} | ({"node": target} if target else {}))
            return {"ordered": what, "event": event, "nodes": sorted(nodes.values(), key=natural)}
        except StoreDown:
            if node != self._node:
                raise
        event = f"page-{os.urandom(8).hex()}"
        self._order_own(what, event)
        return {"ordered": what, "event": event, "nodes": [self._node]}

    def forget(self, told: Any) -> dict[str, Any]:
        """Remove `node`, which ended without saying goodbye, from the register; refused while it answers."""
        _, cluster = self._tools("there is no Redis, and no other node")
        node = _node(_object(told))
        if cluster.answering(node, ANSWERS):
            raise ValueError(f"{node} still runs and answers: end it first")
        count = cluster.forget(node)
        if not count:
            raise ValueError(f"no node is called {node}")
        return {"forgotten": node, "workers": count}


def _object(told: Any) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise ValueError("the body has to be a JSON object")
    return told


def _node(told: dict[str, Any]) -> str:
    node = told.get("node")
    if not isinstance(node, str) or not 0 < len(node) <= LONGEST_NAME + 11:
        raise ValueError("node has to be the name of a node")
    return node
