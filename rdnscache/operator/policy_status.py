"""The orders and lists each node uses, and which nodes lag behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from rdnscache.store.membership import Member

#: Most lists of a node that are read; longest name of one in characters, and longest version.
MOST_LISTS, LONGEST_WORD, VERSION = 50, 200, 8
#: Stands for a version while the workers of a node have different ones.
CHANGING = "changing"


class Status(Protocol):
    """The policy a node uses."""

    node: str
    policy: dict[str, Any]


def policy_of(members: Sequence[Member]) -> dict[str, Any]:
    """The policy a node uses, from its workers' reports, which are not trusted."""
    told = [found for member in members if isinstance(found := member.told.get("policy"), dict)]
    versions = [version for each in told if isinstance(version := each.get("version"), int) and 0 <= version < 1 << 53]
    lists: dict[str, str] = {}
    for each in told:
        found = each.get("lists")
        for word, version in list(found.items())[:MOST_LISTS] if isinstance(found, dict) else ():
            word, version = str(word)[:LONGEST_WORD], str(version)[:VERSION]
            lists[word] = version if lists.get(word, version) == version else CHANGING
    paused = any(each.get("paused") is True for each in told)
    return {"version": min(versions, default=0), "paused": paused, "lists": lists}


def lagging(status: Status, all_of_them: Iterable[Status]) -> list[str]:
    """Remarks about a node whose policy differs from that of others."""
    others = [each.policy for each in all_of_them if each.policy]
    if not status.policy or not others:
        return []
    remarks = []
    if status.policy["version"] < max(each["version"] for each in others):
        remarks.append("uses older orders about names than others")
    for word, version in status.policy["lists"].items():
        usual = Counter(each["lists"][word] for each in others if word in each["lists"]).most_common(1)[0][0]
        if version != usual:
            remarks.append(f"has version {version} of the list {word}, elsewhere {usual}")
    return remarks


def policy_lines(nodes: Iterable[Status]) -> list[str]:
    """Lines of text: a pause, and each list with its versions and the number of nodes with each."""
    told = [each.policy for each in nodes if each.policy]
    paused = sum(each["paused"] for each in told)
    lines = [f"blocking is paused on {paused} of {len(told)} nodes"] if paused else []
    lists: dict[str, Counter[str]] = {}
    for each in told:
        for word, version in each["lists"].items():
            lists.setdefault(word, Counter())[version] += 1
    for word, versions in sorted(lists.items())[:MOST_LISTS]:
        shares = ", ".join(f"version {version} on {count}" for version, count in versions.most_common())
        lines.append(f"list {word}: {shares} node{'' if sum(versions.values()) == 1 else 's'}")
    return lines
