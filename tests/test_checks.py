"""Active checks of upstreams, and what is counted of connections."""

from __future__ import annotations

import dns.message
from support import Node, Reply, Upstream, addresses, answer, ask, failure, free_port, numbers, wait_for


def admin_of(node: Node) -> int:
    """The port of its admin server."""
    return int(node.log().split("admin       http://127.0.0.1:")[1].split("/")[0])


def test_a_server_that_nobody_asks_is_checked() -> None:
    """Once in a while by one of the node's workers, with a question that it can answer; clients notice nothing."""
    with Upstream() as usual, Upstream() as corp:
        args = ("--upstream-check", "1", "--zone", f"corp.test={corp.address}")
        with Node([usual.address], workers=2, args=args):
            wait_for(lambda: usual.count(".", "NS") >= 2 and corp.count("corp.test.", "SOA") >= 2, 10)


def test_a_dead_server_is_found_and_its_return_noticed_without_clients() -> None:
    """It rests before a client has waited for it, and is used again before one has asked."""
    port = free_port()
    with Upstream() as usual:
        args = ("--upstream-check", "1", "--upstream-timeout", "0.2", "--upstream-policy", "ordered",
                "--admin", "127.0.0.1:0")  # fmt: skip
        with Node([f"127.0.0.1:{port}", usual.address], args=args) as node:
            wait_for(lambda: "others are asked first until it answers a probe" in node.log(), 15)
            with Upstream(port=port) as back:
                wait_for(lambda: "answers again" in node.log(), 15)
                assert back.count(".", "NS") >= 1


def test_a_server_that_refuses_is_alive() -> None:
    """Any reply is a sign of life."""

    def refusing(query: dns.message.Message, transport: str) -> Reply:
        return failure(query, 5) if query.question[0].rdtype == 2 else answer(query, "300 A 192.0.2.1")

    with Upstream(refusing) as upstream, Node([upstream.address], args=("--upstream-check", "1")) as node:
        wait_for(lambda: upstream.count(".", "NS") >= 4, 15)
        assert "times in a row" not in node.log()
        assert addresses(ask(node.port, "www.test.")) == ["192.0.2.1"]


def test_connections_are_counted() -> None:
    """Those that are open, and those that were begun, of each upstream."""
    with Upstream() as upstream:
        with Node([f"tcp://{upstream.address}"], args=("--admin", "127.0.0.1:0")) as node:
            for number in range(3):
                ask(node.port, f"n{number}.test.")

            def counted() -> bool:
                found = numbers(admin_of(node))
                label = f"tcp://{upstream.address}"
                opened = found.get(f"upstream_connections_opened_total.{label}")
                return opened == found.get(f"upstream_connections.{label}") == 1.0

            wait_for(counted, 10)
