"""Somebody who forges replies of an upstream, from elsewhere and on the same host; and who would multiply questions."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from support import ExecutedNode, Node, RedisServer, Upstream, addresses, answer, ask, attached, wait_for
from support.network import apart

from siege.forger import IDENT, PORT, Forger, forged

ROOT = Path(__file__).parent.parent


#: Forged replies for each question.
MANY = 100_000
TRUE = "192.0.2.1"
#: For the question of one name: nobody is asked twice because the attack takes a while.
PATIENT = ["--upstream-timeout", "20", "--upstream-deadline", "20", "--upstream-retry-max", "20", "--stale-after", "20"]
ALWAYS = ["--upstream-0x20", "yes"]


#: In a packet: the name in its question.
NAME = 40

Attack = Callable[[Forger, bytes, tuple[str, int]], None]


def _blind(forger: Forger, query: bytes, client: tuple[str, int]) -> None:
    """From elsewhere: neither port nor ID are known, but the question, and which ports the kernel takes."""
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    packet = forger.packet(forger.server, client, forged(query.lower()))
    for number, chance in enumerate(struct.unpack(f"!{MANY}H", os.urandom(2 * MANY))):
        packet[PORT : PORT + 2] = (first + chance % (last + 1 - first)).to_bytes(2, "big")
        packet[IDENT : IDENT + 2] = (number & 0xFFFF).to_bytes(2, "big")
        forger.send(packet)


def _at_the_port(forger: Forger, query: bytes, client: tuple[str, int]) -> None:
    """Who may read the tables of the kernel knows the port: each ID, and some twice."""
    packet = forger.packet(forger.server, client, forged(query.lower()))
    for number in range(MANY):
        packet[IDENT : IDENT + 2] = (number & 0xFFFF).to_bytes(2, "big")
        forger.send(packet)


def _with_the_id(forger: Forger, query: bytes, client: tuple[str, int]) -> None:
    """Even port and ID are known, and only the letter case is not."""
    packet = forger.packet(forger.server, client, forged(query))
    name = query[12 : query.index(b"\0", 12)]
    letters = [at for at, octet in enumerate(name, NAME) if chr(octet).isalpha()]
    for number in range(MANY):
        packet[letters[number % len(letters)]] ^= 0x20
        if packet[NAME : NAME + len(name)] != name:
            forger.send(packet)


def _from_elsewhere(forger: Forger, query: bytes, client: tuple[str, int]) -> None:
    """All is known, but the address or the port of the sender is another one."""
    sources = (("127.0.0.1", 53), ("127.0.0.2", forger.server[1]))
    packets = [forger.packet(source, client, forged(query)) for source in sources]
    for number in range(MANY):
        forger.send(packets[number & 1])


@contextmanager
def _besieged(attack: Attack, tcp: bool = True) -> Iterator[Upstream]:
    """An upstream whose first query over UDP is answered when the attack is over.

    What forks nodes is in another network, so nodes are executed.
    """
    begun, over = threading.Event(), threading.Event()

    def handler(query: dns.message.Message, transport: str) -> Any:
        if transport == "udp" and not begun.is_set():
            begun.set()
            attack(forger, upstream.raw[-1], upstream.sources[-1])
            over.set()
        return answer(query, f"300 A {TRUE}")

    with Upstream(handler, tcp=tcp) as upstream:
        forger = Forger(("127.0.0.1", upstream.port))
        try:
            yield upstream
        finally:
            assert not begun.is_set() or over.wait(60)
            forger.close()


@pytest.mark.parametrize("attack", [_blind, _at_the_port, _with_the_id, _from_elsewhere])
@apart
def test_none_of_100_000_forged_replies_is_accepted(attack: Attack) -> None:
    """The client has the true answer, at once where TCP gets there, and so has the cache."""
    with _besieged(attack) as upstream, ExecutedNode([upstream.address], args=[*PATIENT, *ALWAYS]) as node:
        assert addresses(ask(node.port, "www.besieged.example.test", tcp=True, timeout=20)) == [TRUE]
        assert addresses(ask(node.port, "www.besieged.example.test", tcp=True, timeout=20)) == [TRUE]
        over_tcp = attack in (_at_the_port, _with_the_id)
        assert len(set(upstream.sources)) == 1 + over_tcp  # what is sent again comes from the same port


@apart
def test_forged_replies_do_not_make_a_question_fail() -> None:
    """Where there is no TCP, it is asked again over UDP, from another port with another ID."""
    with (
        _besieged(_at_the_port, tcp=False) as upstream,
        ExecutedNode([upstream.address], args=[*PATIENT, *ALWAYS]) as node,
    ):
        assert addresses(ask(node.port, "www.besieged.example.test", tcp=True, timeout=20)) == [TRUE]
        assert len(set(upstream.sources)) > 1
        assert "failed" not in node.log()


# Who multiplies questions

VARIANTS = list(product((False, True), (False, True)))


def _asked_in_every_variant(nodes: list[Node], name: str) -> None:
    """By many clients at once: letter case, DO and CD, and what is in the question of nobody but the client."""

    def one(number: int) -> None:
        spelled = "".join(letter.upper() if number * 2654435761 >> at & 1 else letter for at, letter in enumerate(name))
        do, cd = VARIANTS[number % len(VARIANTS)]
        query = dns.message.make_query(spelled, "A")
        query.flags |= (dns.flags.CD if cd else 0) | (dns.flags.AD if number % 3 else 0)
        cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"%08d" % number)
        options = [cookie, dns.edns.ECSOption(f"198.51.{number}.0", 24)]
        query.use_edns(0, dns.flags.DO if do else 0, 512 + number, options=options[: number % 3])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            sock.sendto(query.to_wire(), ("127.0.0.1", nodes[number // len(VARIANTS) % len(nodes)].port))
            reply = dns.message.from_wire(sock.recv(4096))
        assert reply.rcode() == dns.rcode.NOERROR

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(one, range(200)))


def _variant(raw: bytes) -> tuple[bool, bool]:
    query = dns.message.from_wire(raw)
    return bool(query.ednsflags & dns.flags.DO), bool(query.flags & dns.flags.CD)


@pytest.mark.parametrize("redis", ["there", "gone", "none"])
def test_one_name_in_every_variant_is_one_query_each(redis: str, redis_server: RedisServer) -> None:
    """Who guesses replies has one query to guess for each variant: of the cluster, or of each node without Redis."""
    url = "none" if redis == "none" else redis_server.url
    with Upstream(delay=2.0) as upstream, ExitStack() as stack:
        nodes = [
            stack.enter_context(Node([upstream.address], redis=url, workers=2, args=[*PATIENT, "--node-id", name]))
            for name in ("n1", "n2")
        ]
        for node in nodes if redis != "none" else []:
            wait_for(lambda node=node: attached(node, 2))
        if redis == "gone":
            redis_server.kill()
        _asked_in_every_variant(nodes, "one-name.birthday.example.test")
        asked = Counter(_variant(upstream.raw[number]) for number in _first_of_each(upstream))
        assert asked == dict.fromkeys(VARIANTS, 1 if redis == "there" else 2)


def _first_of_each(upstream: Upstream) -> list[int]:
    """The numbers of queries that were not merely sent again: same port, same ID."""
    seen = {}
    for number, (source, raw) in enumerate(zip(upstream.sources, upstream.raw, strict=True)):
        seen.setdefault((source, raw[:2]), number)
    return list(seen.values())


def test_what_is_sent_again_is_the_same_to_the_octet() -> None:
    """The same port, ID and letter case: there is still one query to guess."""
    with Upstream(lambda query, transport: None) as upstream:
        args = ["--upstream-timeout", "0.3", "--upstream-deadline", "2", *ALWAYS]
        with Node([upstream.address], args=args) as node:
            ask(node.port, "again.and-again.test", timeout=10)
            assert len(upstream.raw) > 1
            assert len(set(upstream.raw)) == len(set(upstream.sources)) == 1
