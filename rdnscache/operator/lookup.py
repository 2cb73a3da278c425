"""All entries of a name in the cluster: in Redis, and in the local cache of each worker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rdnscache.dns.names import NAME_WORD, parse_name, type_number, type_text
from rdnscache.operator.entries import Browser, View
from rdnscache.operator.members import Members
from rdnscache.printable import printable

#: Seconds to wait for the workers' replies.
PATIENCE = 0.5


def lookup(browser: Browser, cluster: Members, name: str, rtype: str) -> list[View]:
    """Every variant of a name, of one type or (with an empty text) of all.

    Entries that are only in an L1 come last. The variants are looked up by their keys: a pattern would make Redis scan
    all keys. Raises ValueError for an invalid name or type, and StoreDown.
    """
    wire = parse_name(name)
    wanted = type_text(type_number(rtype)) if rtype else ""
    views = list(browser.of_name(wire, (NAME_WORD, wanted) if wanted else ()))
    held: dict[str, list[dict[str, Any]]] = {}
    for entry in cluster.look(wire, PATIENCE):
        question = printable(str(entry.pop("key", "")))
        if not wanted or question.split(" ")[1:2] in ([wanted], [NAME_WORD]):
            held.setdefault(question, []).append(entry)
    found = [replace(view, l1=held.pop(view.question, [])) for view in views]
    return found + [_only_in_l1(question, entries) for question, entries in sorted(held.items())]


def _only_in_l1(question: str, entries: list[dict[str, Any]]) -> View:
    first = entries[0]
    origin = dict(part.split("=", 1) for part in printable(str(first.get("origin", ""))).split() if "=" in part)
    return View(
        key="",
        question=question,
        rcode=printable(str(first.get("rcode", "?"))),
        ttl_left=_seconds(first.get("ttl_left")),
        age=_seconds(first.get("age")),
        state="not in Redis",
        stored="?",
        source=origin.get("from", "?"),
        node=origin.get("node", "?"),
        route=origin.get("route", ""),
        answer=[],
        l1=entries,
    )


def _seconds(told: Any) -> int:
    return int(told) if isinstance(told, int | float) and 0 <= told < 1e9 else 0
