"""Searches the sampled queries of a node."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest
from typing import Any

from rdnscache.audience import client_text
from rdnscache.breath import Breathe
from rdnscache.dns.names import name_text, rcode_text, type_text
from rdnscache.outcomes import LAYERS
from rdnscache.query_sample import QueryRing, Sampled

#: Most queries shown; most characters and words of a search.
MOST, LONGEST_SEARCH, MOST_WORDS = 200, 300, 8


def search(rings: Sequence[QueryRing], text: str, breathe: Breathe) -> dict[str, Any]:
    """The latest queries that contain all words, newest first, and how many were searched."""
    words = text.lower().split()[:MOST_WORDS]
    found: list[tuple[Sampled, dict[str, Any]]] = []
    total = 0
    for ring in rings:
        for each in ring.read():
            total += 1
            told = _told(each)
            line = " ".join(str(value) for name, value in told.items() if name not in ("time", "ms")).lower()
            if all(word in line for word in words):
                found.append((each, told))
            breathe()
        found = nlargest(MOST, found, key=lambda item: item[0].time)
    return {"searched": total, "queries": [told for _, told in found]}


def _told(each: Sampled) -> dict[str, Any]:
    return {
        "time": round(each.time, 3),
        "client": client_text(each.client),
        "transport": "tcp" if each.stream else "udp",
        "name": name_text(each.name) if each.name else "-",
        "type": type_text(each.qtype) if each.name else "-",
        "rcode": rcode_text(each.rcode),
        "layer": LAYERS[each.layer],
        "ms": round(each.ms, 3),
    }
