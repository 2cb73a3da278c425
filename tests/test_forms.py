"""The two forms of the hot modules, compiled and in plain Python, give the same octets for the same input."""

from __future__ import annotations

import json
import random
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from support import ROOT, clean_env
from support.compiled import outdated

from rdnscache.clients.proxy import LOCAL_HEADER, build_proxy
from rdnscache.dns.splice import splice_key, splice_reply, splice_view
from rdnscache.forms import form
from rdnscache.server.batch import BATCH, QUERY_SIZE, Batch
from rdnscache.store.packing import spell, widen

#: Each runs both forms.
pytestmark = pytest.mark.once

FORMS = {"compiled": {}, "pure Python": {"RDNSCACHE_PURE": "1"}}

Item = list[Any]


def run_form(which: str, *arguments: str) -> str:
    """What a Python of one form prints."""
    env = clean_env({"PYTHONPATH": str(ROOT), "RDNSCACHE_PURE": ""} | FORMS[which])  # whatever ours is
    return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def both() -> None:
    """Skips where there is only one form to look at."""
    if run_form("compiled", "-c", "from rdnscache.forms import form; print(form())").strip() != "compiled":
        pytest.skip("the hot modules are not compiled here: `make compile`")
    assert outdated() == []


# The corpus: what the forms are compared on. Octets are {"hex": "00"}, see forms.py.

RECORDS = {
    "A": "192.0.2.1",
    "AAAA": "2001:db8::1",
    "NS": "ns1.example.net.",
    "CNAME": "web.example.com.",
    "DNAME": "example.net.",
    "SOA": "ns.example.com. root.example.com. 7 3600 600 86400 77",
    "PTR": "host.example.com.",
    "MX": "10 mail.example.com.",
    "TXT": '"v=spf1 -all" "second"',
    "SRV": "0 5 5060 sip.example.com.",
    "NAPTR": '100 10 "u" "E2U+sip" "!^.*$!sip:a@example.com!" .',
    "CAA": '0 issue "ca.example.net"',
    "DS": "60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118",
    "RRSIG": "A 5 3 86400 20300101000000 20200101000000 2642 example.com. AAAA",
    "NSEC": "host.example.com. A MX RRSIG NSEC TYPE1234",
    "TLSA": "3 1 0 0123456789abcdef",
    "SVCB": "1 svc.example.com. alpn=h2 port=8443",
    "HTTPS": "1 . alpn=h3",
    "TYPE65280": r"\# 8 c00cff0a00410001",
}
NAMES = ("www.example.com.", "wWw.EXaMPle.coM.", ".", "a.", r"\000\.\255.TeSt.", "x" * 63 + ".example.")
TTLS = (0, 1, 30, 60, 299, 300, 301, 86400, 604800, 0x7FFFFFFF)
OPTIONS = (
    dns.edns.ECSOption("192.0.2.0", 24),
    dns.edns.CookieOption(b"12345678", b""),
    dns.edns.CookieOption(b"12345678", b"abcdefghijklmnop"),
    dns.edns.GenericOption(dns.edns.OptionType.make(12), bytes(40)),
    dns.edns.GenericOption(dns.edns.OptionType.make(65001), b"x"),
    dns.edns.GenericOption(dns.edns.OptionType.make(65300), b""),
)


def octets(data: bytes) -> dict[str, str]:
    return {"hex": data.hex()}


def a_query(rng: random.Random) -> dns.message.Message:
    edns = rng.choice((False, 0, 0, 0, 1))
    options = rng.sample(OPTIONS, rng.randrange(3))
    message = dns.message.make_query(
        rng.choice(NAMES),
        rng.choice(list(RECORDS)),
        rng.choice(("IN", "IN", "IN", "CH")),
        id=rng.randrange(65536),
        flags=rng.choice((0, dns.flags.RD, dns.flags.RD | dns.flags.AD, dns.flags.RD | dns.flags.CD, 0x01F0)),
        use_edns=edns,
        options=None if edns is False else options,
    )
    if edns is not False:
        message.use_edns(edns, rng.choice((0, dns.flags.DO)), rng.choice((0, 512, 600, 1232, 4096)), options=options)
        message.pad = rng.choice((0, 0, 128))
    return message


def a_reply(rng: random.Random) -> dns.message.Message:
    query = dns.message.make_query(rng.choice(NAMES), rng.choice(list(RECORDS)), id=rng.randrange(65536))
    if rng.random() < 0.7:
        query.use_edns(0, rng.choice((0, dns.flags.DO)))
    reply = dns.message.make_response(query, recursion_available=True)
    codes = (0, 0, 0, 0, 2, 3, 3, 5, 6, 9) + ((16, 23) if query.edns >= 0 else ())
    reply.set_rcode(dns.rcode.Rcode(rng.choice(codes)))
    if rng.random() < 0.4:
        reply.flags |= rng.choice((dns.flags.AD, dns.flags.AA, dns.flags.TC))
    owner = query.question[0].name
    for section, many in ((reply.answer, 4), (reply.authority, 3), (reply.additional, 3)):
        for kind in rng.sample(list(RECORDS), rng.randrange(many)):
            name = rng.choice((owner, owner, *NAMES))
            section.append(dns.rrset.from_text(name, rng.choice(TTLS), "IN", kind, RECORDS[kind]))
    return reply


def a_long_reply(count: int, more: int) -> bytes:
    """A record of 16 octets so many times, and others in the additional section."""
    question = b"\3www\7example\3com\0\0\1\0\1"
    records = b"".join(
        b"\xc0\x0c\0\1\0\1" + (300 + n % 7).to_bytes(4, "big") + b"\0\4\xc0\0" + n.to_bytes(2, "big")
        for n in range(count + more)
    )
    return b"\0\0\x81\xa0\0\1" + count.to_bytes(2, "big") + b"\0\0" + more.to_bytes(2, "big") + question + records


def with_ttl(reply: bytes, ttl: int) -> bytes:
    """A reply made by dnspython, which refuses such a TTL itself, with all TTLs replaced."""
    data, message = bytearray(reply), dns.message.from_wire(reply)
    for rrset in message.answer + message.authority + message.additional:
        rdtype = rrset.rdtype.to_bytes(2, "big") + b"\0\1" + rrset.ttl.to_bytes(4, "big")
        at = data.find(rdtype, 12)
        while at >= 0:
            data[at + 4 : at + 8] = ttl.to_bytes(4, "big")
            at = data.find(rdtype, at + 8)
    return bytes(data)


def damaged(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A valid message with bits flipped, slices cut out, doubled or overwritten, or pointers put in."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data)) if data else 0
        size = rng.randrange(1, 14)
        match rng.randrange(6):
            case 0 | 1 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size]
            case 4:
                data[at : at + 2] = bytes((0xC0 | rng.randrange(2), rng.randrange(256)))
            case _:
                data[at : at + size] = rng.randbytes(size)
    return bytes(data)


def at_the_limits() -> Iterator[bytes]:
    """Names of 254 to 257 octets, pointers around their own place, the shortest SOA, the largest EDNS sizes."""
    query, reply = b"\0\0\1\0\0\1\0\0\0\0\0", b"\0\0\x81\x80\0\1\0\0\0\1\0\0"
    for size in range(60, 64):
        name = (b"\x3f" + b"a" * 63) * 3 + bytes((size,)) + b"B" * size + b"\0"
        record = name + b"\0\1\0\1\0\0\0\x3c\0\0"
        yield query + b"\0" + name + b"\0\1\0\1"
        yield query + b"\1" + b"\0\0\1\0\1" + record
        yield reply + name + b"\0\1\0\1" + b"\0" + record[-10:]
        yield reply + b"\0\0\1\0\1" + record
    for target in range(11, 22):  # the owner itself is at 17
        pointer = bytes((0xC0, target)) + b"\0\1\0\1\0\0\0\x3c\0\0"
        yield query + b"\1" + b"\0\0\1\0\1" + pointer
        yield reply + b"\0\0\1\0\1" + pointer
    for size in range(20, 26):
        yield reply + b"\0\0\6\0\1" + b"\0\0\6\0\1\0\0\1\x2c\0" + bytes((size,)) + bytes(range(size))
    for size in (0, 1, 511, 512, 513, 1231, 1232, 1233, 32767, 32768, 65535):
        yield query + b"\1" + b"\1A\0\0\1\0\1" + b"\0\0\x29" + size.to_bytes(2, "big") + bytes(6)


def packets(rng: random.Random) -> Iterator[bytes]:
    queries = [a_query(rng).to_wire(max_size=65535) for _ in range(400)]
    replies = [a_reply(rng).to_wire(max_size=65535) for _ in range(400)]
    odd = [with_ttl(reply, ttl) for reply in replies[:60] for ttl in (0x80000000, 0x80000001, 0xFFFFFFFF)]
    yield from queries + replies + odd
    yield from at_the_limits()
    yield from (
        a_long_reply(*counts) for counts in ((10, 60), (29, 1), (30, 0), (75, 1), (500, 500), (4093, 0), (4094, 0))
    )
    seeds = queries[:60] + replies[:60] + odd[:10]
    for data in queries[:6] + replies[:6]:
        yield from (data[:size] for size in range(len(data)))
        yield data + b"\0"
    yield from (damaged(rng, seeds) for _ in range(2500))
    for _ in range(400):
        noise = rng.randbytes(rng.randrange(80))
        yield noise
        yield b"\0\0\1\0\0\1\0\0\0\0\0\1" + noise
        yield b"\0\0\x81\x80\0\1\0\1\0\0\0\0\1A\0\0\1\0\1" + noise


OPERATIONS = (*["put"] * 4, *["get"] * 3, *["hit"] * 2, "again", "drop", "drop_name", "hold", "wait")


NETWORKS = (
    "loopback",
    "private",
    "any",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "198.51.100.7",
    "2001:db8::/33",
    "::/1",
    "::1",
)
SOURCES = ("c0000201", "c0000281", "c6336407", "0a000001", "7f000001", "20010db8" + "00" * 12, "00" * 15 + "01",
           "00" * 10 + "ffffc0000201", "fe80" + "00" * 14, "ff" * 16, "ff" * 4, "", "c00002", "00" * 17)  # fmt: skip


def about_clients(rng: random.Random) -> Iterator[Item]:
    """PROXY headers whole, cut and broken; sets of networks; limits that are kept and broken."""
    headers = [
        build_proxy(rng.randbytes(size), rng.randrange(65536), rng.randbytes(size), 53, stream, rng.randbytes(fields))
        for size in (4, 16) for stream in (False, True) for fields in (0, 7, 480)
    ]  # fmt: skip
    headers.append(build_proxy(bytes(4), 1, bytes(4), 53, True, b"\1\0\1x\2\0\x0cOffice.test."))
    for header in [*headers, LOCAL_HEADER]:
        yield from (["proxied", octets(header[:size])] for size in (0, 11, 12, 13, 15, 16, 27, 28, 51, len(header)))
    yield from (["proxied", octets(damaged(rng, headers) + bytes(30))] for _ in range(600))
    for _ in range(100):
        texts, but_not = rng.sample(NETWORKS, rng.randrange(5)), rng.sample(NETWORKS, rng.randrange(4))
        yield ["held", texts, but_not, [*SOURCES, *(rng.randbytes(rng.choice((4, 16))).hex() for _ in range(20))]]
    for _ in range(60):
        limit = [rng.choice((0.5, 3, 20)), rng.choice((1, 4)), rng.choice((0, 1, 2, 5)), rng.getrandbits(64)]
        limit += [rng.randrange(1, 33), rng.randrange(1, 65), 16]
        known = [*SOURCES, *(rng.randbytes(rng.choice((4, 16))).hex() for _ in range(30))]
        pauses = (0.0, 0.0, 0.01, 0.125, 0.3)
        queries = [(rng.choice(known[: rng.choice((2, 44))]), rng.choice(pauses)) for _ in range(300)]
        yield ["limited", limit, rng.sample(NETWORKS[3:], 2), queries]


def corpus() -> list[Item]:
    """The same on every run."""
    rng = random.Random(1035)
    items: list[Item] = [["packet", octets(data)] for data in packets(rng)]
    for _ in range(200):
        key = rng.randbytes(rng.randrange(30))
        items.append(["built", octets(key), rng.choice((0, 1, 4711, 65535, 65536, -1))])
        tail = rng.choice((b"\0", b"\x7f", b"\x80", b"\xff", b"")) + rng.randbytes(rng.randrange(40))
        places = [rng.randrange(len(tail) + 2).to_bytes(2, "big") for _ in range(rng.randrange(4))]
        ttls = b"".join(places) + rng.choice((b"", b"", b"", b"\0"))
        seconds = rng.choice((0, 1, 300, 2**31 - 1, 2**31, 2**32))
        items.append(["aged", octets(tail), octets(ttls), seconds, rng.choice((0, 0, 30))])
        items.append(["number_at", octets(tail), rng.randrange(40)])
        data = rng.randbytes(rng.randrange(17, 300))
        items.append(["key_spliced", octets(data), rng.randrange(12, len(data) - 4), rng.randrange(4)])
        numbers = [rng.choice((0, 1, 255, 256, 0x8180, 0xFFFF)) for _ in range(4)]
        end, size = rng.choice((12, len(data), rng.randrange(12, len(data)))), rng.choice((0, len(tail)))
        items.append(["reply_spliced", octets(data), end, *numbers, octets(tail), size, octets(rng.randbytes(11))])
        labels = [rng.randbytes(rng.choice((1, 3, 8, 63))) for _ in range(rng.randrange(6))]
        name = b"".join(bytes((len(label),)) + label for label in labels) + rng.choice(
            (b"\0", b"\0\0\1\0\1\0", b"", b"\3a")
        )
        words = [rng.choice((octets(tail), rng.getrandbits(40), 7, "ü", octets(bytes(1000)))) for _ in range(12)]
        items.append(["for_redis", octets(name), *words])
    for _ in range(60):
        kinds = rng.choices((*OPERATIONS, "clear"), (4,) * len(OPERATIONS) + (1,), k=200)
        steps = [(kind, rng.randrange(60), rng.choice((0, 4, 40, 900)), rng.randrange(1, 40)) for kind in kinds]
        items.append(["cached", rng.randrange(1, 30), rng.choice((800, 6000, 10**6)), steps])
    return items + list(about_clients(rng))


def test_both_forms_give_the_same_octets(both: None, tmp_path: Path) -> None:
    """Every attribute, every reply, every step of a cache, for thousands of messages valid, odd and broken."""
    items = [json.dumps(item) for item in corpus()]
    path = tmp_path / "corpus"
    path.write_text("\n".join(items))
    outputs = {}
    for which in FORMS:
        ran, *lines = run_form(which, str(ROOT / "tests" / "forms.py"), str(path)).splitlines()
        assert ran == which
        assert len(lines) == len(items)
        outputs[which] = lines
    pairs = zip(items, outputs["compiled"], outputs["pure Python"], strict=True)
    different = [(item, json.loads(ours), json.loads(plain)) for item, ours, plain in pairs if ours != plain]
    if different:
        item, ours, plain = different[0]
        facts = [f"compiled {c}\n    plain    {p}" for c, p in zip(ours, plain, strict=False) if c != p]
        facts = facts or [f"{len(ours)} facts in the compiled form, {len(plain)} in the plain one"]
        pytest.fail(
            f"{len(different)} of {len(items)} items differ; the first is {item}\n    {facts[0]}", pytrace=False
        )


def test_twins_have_the_same_names(both: None) -> None:
    """Where a form has a source of its own: the same constants, functions, methods and parameters. All or none."""
    compiled, plain = (json.loads(run_form(which, str(ROOT / "tests" / "forms.py")).splitlines()[1]) for which in FORMS)
    assert compiled["twins"] == plain["twins"]
    for names in plain["twins"].values():
        assert names
    assert (compiled["compiled"], plain["compiled"]) == (compiled["hot"], [])


# What only C can get wrong. Each form is looked at when the suite runs in it.

in_c = pytest.mark.skipif(form() != "compiled", reason="the plain form slices: nothing is out of range")
MESSAGE = bytes(range(12)) + b"\1A\0\0\1\0\1"
FAR = (-sys.maxsize - 1, -(2**32), -(2**31), -1, 0, 1, 11, 2**31 - 1, 2**31, 2**32 + 12, sys.maxsize - 12, sys.maxsize)


@in_c
@pytest.mark.parametrize("root", [*FAR, len(MESSAGE) - 4, len(MESSAGE), len(MESSAGE) + 1])
def test_no_key_is_read_from_beyond_a_message(root: int) -> None:
    """The name's root byte and the four octets after it have to be inside, as does all before it."""
    with pytest.raises(IndexError):
        splice_key(MESSAGE, root, 0)
    with pytest.raises(IndexError):
        splice_key(MESSAGE[:16], 12, 0)


@in_c
@pytest.mark.parametrize("end", [number for number in FAR if number != 1] + [4])
def test_no_key_of_a_view_is_made_from_beyond_a_key(end: int) -> None:
    """The end of a name that lies outside of the key, or in what follows it, is an error; so is a number too large."""
    key = b"\1a\0\0\1\0\1\0"
    with pytest.raises(IndexError):
        splice_view(key, end, 1)
    with pytest.raises(IndexError):
        splice_view(key, 3, 256)


@in_c
@pytest.mark.parametrize("end", [*FAR, len(MESSAGE) + 1])
def test_no_reply_is_made_from_beyond_a_query(end: int) -> None:
    """An end of the question that lies outside of the query is an error, not memory of others."""
    with pytest.raises(IndexError):
        splice_reply(MESSAGE, end, 0x8180, 1, 0, 0, b"tail", 4, b"")


@in_c
@pytest.mark.parametrize("size", [number for number in FAR if not 0 <= number <= 4] + [5])
def test_no_reply_is_made_from_beyond_a_tail(size: int) -> None:
    """So is a size that the records do not have."""
    with pytest.raises(IndexError):
        splice_reply(MESSAGE, len(MESSAGE), 0x8180, 1, 0, 0, b"tail", size, b"")


def test_splices_take_bytes_and_nothing_else() -> None:
    """None is no octets: it has no length to check."""
    for data, tail, opt in ((None, b"tail", b""), (MESSAGE, None, b""), (MESSAGE, b"tail", None)):
        with pytest.raises(TypeError):
            splice_reply(data, 12, 0, 0, 0, 0, tail, 0, opt)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        splice_key(None, 12, 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        splice_view(None, 1, 0)  # type: ignore[arg-type]


def test_what_redis_is_told_is_made_of_octets() -> None:
    """Neither None nor text stands for them, in either form."""
    for head, key, tail in ((None, b"\0", b""), (b"", None, b""), (b"", b"\0", None)):
        with pytest.raises(TypeError):
            spell(head, key, tail)  # type: ignore[arg-type]
    with pytest.raises((TypeError, AttributeError)):
        widen(None, b"NXDOMAIN")  # type: ignore[arg-type]


def test_ends_of_the_range_are_inside() -> None:
    """The first and the last offset there may be."""
    assert splice_key(MESSAGE, 14, 3) == b"\1a\0\0\1\0\1\3"
    assert splice_key(MESSAGE[:12] + b"\0AABB", 12, 0) == b"\0AABB\0"
    assert splice_view(b"\1a\0\0\1\0\1\2", 3, 250) == b"\1a\0\xfa\0\1\0\1\x0a"
    ident, counts = MESSAGE[:2], b"\0\1\0\2\0\3"
    whole = splice_reply(MESSAGE, len(MESSAGE), 0x8180, 1, 2, 3, b"tail", 4, b"opt")
    assert whole == ident + b"\x81\x80\0\1" + counts + MESSAGE[12:] + b"tailopt"
    assert splice_reply(MESSAGE, 12, 0x8180, 1, 2, 3, b"tail", 0, b"") == ident + b"\x81\x80\0\0" + counts


# Datagrams in batches, over real sockets.

HOSTS = ["127.0.0.1", "::1"]


def families() -> list[str]:
    """The loopback addresses there are here."""
    found = []
    for host in HOSTS:
        try:
            opened(host).close()
        except OSError:
            continue
        found.append(host)
    return found


def opened(host: str) -> socket.socket:
    """A UDP socket on a free port. Nothing waits for longer than a test may."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.settimeout(5)
        sock.bind((host, 0))
    except OSError:
        sock.close()
        raise
    return sock


class Line:
    """A batch on a socket, and clients that have connected to it: they take replies from where they asked only."""

    def __init__(self, host: str, wildcard: bool = False) -> None:
        self.host = host
        wild = "::" if ":" in host else "0.0.0.0"
        self.sock = opened(wild if wildcard else host)
        self.sock.setblocking(False)
        self.batch = Batch(self.sock, wildcard)
        self._clients: list[socket.socket] = []

    def client(self, host: str = "") -> socket.socket:
        """Another client, of the address `host`."""
        sock = opened(self.host)
        self._clients.append(sock)
        sock.connect((host or self.host, self.sock.getsockname()[1]))
        return sock

    def receive(self) -> int:
        """The next batch that is not empty."""
        readable, _, _ = select.select([self.sock], [], [], 5)
        assert readable, "nothing arrived"
        return self.batch.receive()

    def close(self) -> None:
        for sock in (self.sock, *self._clients):
            sock.close()


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    if request.param not in families():
        pytest.skip(f"there is no {request.param} here")
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["one-address", "wildcard"])
def line(request: pytest.FixtureRequest, host: str) -> Iterator[Line]:
    made = Line(host, request.param)
    yield made
    made.close()


def test_a_hundred_datagrams_are_answered_in_batches(line: Line) -> None:
    """At most 64 at once, each once, and every reply reaches the one who asked."""
    clients = [line.client() for _ in range(20)]
    for number in range(100):
        clients[number % 20].send(b"%d" % number)
    sizes, seen = [], []
    while len(seen) < 100:
        sizes.append(line.receive())
        for index in range(sizes[-1]):
            seen.append(line.batch.data(index))
            line.batch.reply(index, b"reply to " + seen[-1])
        line.batch.send_queued()
    assert max(sizes) <= BATCH == 64
    assert sorted(seen) == sorted(b"%d" % number for number in range(100))
    for number, client in enumerate(clients):
        wanted = {b"reply to %d" % (number + 20 * turn) for turn in range(5)}
        assert {client.recv(100) for _ in range(5)} == wanted
    assert line.batch.receive() == 0


def test_more_than_a_batch_is_left_for_the_next(line: Line) -> None:
    """What is read is the oldest, in its order; nothing is lost in between."""
    client = line.client()
    for number in range(BATCH + 6):
        client.send(b"%d" % number)
    seen = []
    while len(seen) < BATCH + 6:
        seen += [line.batch.data(index) for index in range(line.receive())]
    assert seen == [b"%d" % number for number in range(BATCH + 6)]


def test_a_batch_after_a_longer_one_has_nothing_of_it(line: Line) -> None:
    """Slots are used again: no octets, no clients and no indices are left from the batch before."""
    first, second = line.client(), line.client()
    for _ in range(10):
        first.send(b"a long datagram")
    count = 0
    while count < 10:
        count += line.receive()
    second.send(b"brief")
    assert line.receive() == 1
    assert line.batch.data(0) == b"brief"
    with pytest.raises(IndexError):
        line.batch.data(1)
    line.batch.reply(0, b"to second")
    line.batch.send_queued()
    assert second.recv(100) == b"to second"
    first.setblocking(False)
    with pytest.raises(BlockingIOError):
        first.recv(100)


def test_long_and_empty_datagrams(line: Line) -> None:
    """What is longer than a query is cut; an empty one is a datagram like others; replies may be of any size."""
    client = line.client()
    sent = [bytes(range(256)) * (QUERY_SIZE // 256) + b"more", b"", b"x" * QUERY_SIZE, b"y" * (QUERY_SIZE - 1), b"z"]
    for data in sent:
        client.send(data)
    seen = []
    while len(seen) < len(sent):
        for index in range(line.receive()):
            seen.append(line.batch.data(index))
            line.batch.reply(index, seen[-1] * 3)
        line.batch.send_queued()
    assert seen == [data[:QUERY_SIZE] for data in sent]
    assert [client.recv(65535) for _ in sent] == [data * 3 for data in seen]


def exchanged(line: Line, clients: Sequence[socket.socket], sizes: Sequence[int]) -> None:
    """Each client asks for a reply of each size, all in one batch, and gets exactly these."""
    for number, client in enumerate(clients):
        for size in sizes:
            client.send(b"%d %d" % (number, size))
    count = 0
    while count < len(clients) * len(sizes):
        found = line.receive()
        for index in range(found):
            number, size = map(int, line.batch.data(index).split())
            line.batch.reply(index, bytes([number]) * size)
        count += found
        line.batch.send_queued()
    for number, client in enumerate(clients):
        assert sorted(client.recv(65535) for _ in sizes) == sorted(bytes([number]) * size for size in sizes)


def test_replies_of_one_size_to_one_client(line: Line) -> None:
    """Each is a datagram of its own, whatever else is in the batch; those that fit no path together as well."""
    clients = [line.client() for _ in range(3)]
    exchanged(line, clients, [100, 50, 100, 100, 50, 1232, 1232, 1233, 1233, 100, 7])
    exchanged(line, clients[:1], [1200] * 60)
    exchanged(line, clients[:1], [0, 0, 9, 9, 0])


def test_a_device_that_cannot_make_datagrams(line: Line) -> None:
    """Linux refuses, as it does without checksums: from then on they are sent one by one, and none is lost."""
    clients = [line.client() for _ in range(2)]
    if line.sock.family == socket.AF_INET6:
        pytest.skip("IPv6 has no datagrams without a checksum")
    line.sock.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
    for _ in range(2):
        exchanged(line, clients, [100, 50, 100, 100, 50, 7])


def test_index_out_of_range(line: Line) -> None:
    """Before the first batch, at the number of datagrams, and past all slots."""

    def nothing_at(index: int) -> None:
        for use in (line.batch.data, line.batch.client, lambda index: line.batch.reply(index, b"lost")):
            with pytest.raises(IndexError):
                use(index)

    nothing_at(0)
    client = line.client()
    client.send(b"one")
    assert line.receive() == 1
    for index in (1, BATCH - 1, BATCH, BATCH + 1, 2**31 - 1):
        nothing_at(index)
    line.batch.send_queued()
    assert line.batch.receive() == 0
    nothing_at(0)
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(100)


def test_a_client_can_be_answered_when_its_batch_is_gone(line: Line) -> None:
    """Whom to answer outlives the batch: the late reply goes to the one who asked."""
    late, others = line.client(), [line.client() for _ in range(3)]
    late.send(b"first")
    assert line.receive() == 1
    kept = line.batch.client(0)
    for other in others:
        other.send(b"later")
    count = 0
    while count < 3:
        received = line.receive()
        for index in range(received):
            line.batch.client(index)
            line.batch.reply(index, b"at once")
        line.batch.send_queued()
        count += received
    line.batch.reply_to(kept, b"at last")
    line.batch.reply_to(kept, b"and again")
    line.batch.send_queued()
    assert (late.recv(100), late.recv(100)) == (b"at last", b"and again")
    for other in others:
        assert other.recv(100) == b"at once"


def test_flush_without_replies(line: Line) -> None:
    """Before anything came, after a batch nobody answers, and twice: nothing is sent, nothing is sent again."""
    line.batch.send_queued()
    client = line.client()
    client.send(b"one")
    assert line.receive() == 1
    line.batch.send_queued()
    line.batch.reply(0, b"only")
    line.batch.send_queued()
    line.batch.send_queued()
    assert client.recv(100) == b"only"
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(100)


@pytest.mark.parametrize("refused", [{0}, {4}, {9}, {0, 1, 5, 8, 9}, set(range(10))], ids=str)
def test_a_reply_the_kernel_refuses_stops_no_other(line: Line, refused: set[int]) -> None:
    """One that cannot be sent (here: larger than any datagram) is left out, wherever it stands."""
    clients = [line.client() for _ in range(10)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    answered = 0
    while answered < 10:
        received = line.receive()
        for index in range(received):
            data = line.batch.data(index)
            line.batch.reply(index, bytes(70_000) if int(data) in refused else b"reply to " + data)
        line.batch.send_queued()
        answered += received
    for number, client in enumerate(clients):
        if number not in refused:
            assert client.recv(100) == b"reply to %d" % number


def test_a_late_reply_the_kernel_refuses_stops_no_other(line: Line) -> None:
    """The same for those who waited: also while replies of a batch are still to be sent."""
    client = line.client()
    client.send(b"one")
    assert line.receive() == 1
    kept = line.batch.client(0)
    line.batch.reply(0, b"found")
    line.batch.reply_to(kept, bytes(70_000))
    line.batch.send_queued()
    assert client.recv(100) == b"found"
    line.batch.reply_to(kept, b"late")
    line.batch.send_queued()
    assert client.recv(100) == b"late"


def test_on_a_wildcard_replies_leave_from_the_address_asked() -> None:
    """At once and later on: the clients have connected to these addresses and take a reply from no other.

    The second batch comes in another order: where the first one was asked is forgotten.
    """
    line = Line("127.0.0.1", wildcard=True)
    try:
        clients = [line.client(f"127.0.0.{number}") for number in (2, 3, 2, 1)]
        for order in (clients, clients[::-1]):
            for client in order:
                client.send(b"query")
            kept: list[Any] = []
            while len(kept) < len(clients):
                for index in range(line.receive()):
                    kept.append(line.batch.client(index))
                    line.batch.reply(index, b"now")
                line.batch.send_queued()
            for who in kept:
                line.batch.reply_to(who, b"later")
            line.batch.send_queued()
            for client in clients:
                assert [client.recv(100), client.recv(100)] == [b"now", b"later"]
    finally:
        line.close()
