"""A first look: what README.md prints is what a node and the commands say, but for numbers and order."""

from __future__ import annotations

import re
import shlex

import dns.message
import dns.rdatatype
import pytest
from support import ROOT, Node, Upstream, answer, command, wait_for

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

TEXT = (ROOT / "README.md").read_text()


def printed(words: str) -> list[str]:
    """What README.md shows below a command."""
    found = re.search(rf"^\$ {re.escape(words)}\n(.*?)(?=^\$ |^```)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, words
    return lines(found[1])


def lines(text: str) -> list[str]:
    """Sorted, without what differs from run to run."""
    text = re.sub(r"unix://\S+\.sock|-s \S+\.sock", "SOCKET", text).replace(" (pure Python)", "")
    text = re.sub(r"\bentry\b", "entries", re.sub(r"\bnode\b", "nodes", text))
    return sorted(" ".join(line.split()) for line in re.sub(r"[\d.]*\d", "N", text).splitlines() if line.strip())


def told(words: str, node: Node) -> list[str]:
    """What the command says about this node."""
    own = {"XDG_RUNTIME_DIR": str(node.folder), "RDNSCACHE_LISTEN": f"127.0.0.1:{node.port}"}
    return lines(command(*shlex.split(words)[1:], env=own).stdout)


def records(query: dns.message.Message, _transport: str) -> dns.message.Message:
    """The zone of the examples."""
    mail = query.question[0].rdtype == dns.rdatatype.MX
    return answer(query, "300 MX 10 mail.example.com." if mail else "300 A 192.0.2.1")


def test_a_first_look() -> None:
    """The greeting of a node, a query, the list of the cache, a flush, and the heads of the cluster's status."""
    with Upstream(records) as upstream, Node([upstream.address], "embedded", 2, ("--node-id", "n1")) as node:
        greeting = re.search(r"^rdnscache node n1:.*?(?=^```)", TEXT, re.MULTILINE | re.DOTALL)
        assert greeting is not None
        wait_for(lambda: node.log().count("attached to Redis") == 2)
        assert set(lines(greeting[0])) <= set(lines(node.log()))
        told("rdnscache query www.example.com", node)
        told("rdnscache query example.com MX", node)
        wait_for(lambda: len(told("rdnscache cache ls", node)) == 3)
        for words in ("rdnscache query example.com MX", "rdnscache cache ls", "rdnscache cache flush www.example.com"):
            assert told(words, node) == printed(words)
        wait_for(lambda: any("upstream" in line for line in told("rdnscache cluster status", node)))
        heads = [line for line in printed("rdnscache cluster status") if not re.search(r"\bN\b", line)]
        assert set(heads) <= set(told("rdnscache cluster status", node))
