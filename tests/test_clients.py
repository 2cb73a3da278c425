"""Who asks, through whom, and how much: PROXY headers, sets of networks, and the limit of replies."""

from __future__ import annotations

import ipaddress
import random
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdnscache.clients.limit import DROP, PASS, SLIP, Limiter
from rdnscache.clients.networks import DEFAULT_ALLOW, Networks, parse_networks
from rdnscache.clients.proxy import LOCAL_HEADER, MAX_HEADER, MORE, REFUSED, build_proxy, parse_proxy, proxy_end

pytestmark = pytest.mark.pure

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
V4, V6 = bytes((192, 0, 2, 1)), bytes.fromhex("20010db8000000000000000000000001")
NOW = 1000.0

addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


class TestProxyHeader:
    def test_datagram_over_ipv4(self) -> None:
        """The example of the specification, octet by octet, with a TLV before the payload."""
        data = SIGNATURE + b"\x21\x12\x00\x11" + b"\xc0\0\2\1" + b"\xc0\0\2\x35" + b"\x12\x67" + b"\0\x35" + b"\4\0\2??"
        proxied = parse_proxy(data + b"message")

        assert proxied is not None
        assert (proxied.source, proxied.source_port) == (V4, 4711)
        assert (proxied.destination, proxied.destination_port) == (b"\xc0\0\2\x35", 53)
        assert (data + b"message")[proxied.end :] == b"message"
        assert not proxied.stream

    @given(st.integers(0, 65535), st.integers(0, 65535), st.booleans(), st.booleans(), st.binary(max_size=480))
    def test_what_is_built_is_read(self, port: int, other: int, six: bool, stream: bool, fields: bytes) -> None:
        """The writer and the reader agree, whatever fields come behind the addresses."""
        source, destination = (V6, bytes(15) + b"\1") if six else (V4, b"\x7f\0\0\1")
        header = build_proxy(source, port, destination, other, stream, fields)
        proxied = parse_proxy(header + b"payload")

        assert proxied is not None
        assert (proxied.source, proxied.source_port, proxied.stream) == (source, port, stream)
        assert (proxied.destination, proxied.destination_port, proxied.end) == (destination, other, len(header))

    @pytest.mark.parametrize("fields", [b"", b"\3\0\4abcd"])
    def test_connection_brings_it_in_pieces(self, fields: bytes) -> None:
        """Every beginning wants more, and none is read; what follows changes nothing."""
        header = build_proxy(V6, 1, V6, 53, True, fields)
        for size in range(len(header)):
            assert proxy_end(header[:size]) == MORE
            assert parse_proxy(header[:size]) is None
        assert proxy_end(header) == proxy_end(header + b"\0\x1d") == len(header)

    @pytest.mark.parametrize(
        ("kind", "rest"),
        [
            (b"\x20\x00", b""), (b"\x20\x11", bytes(12)), (b"\x20\xff", b"??"),
            (b"\x21\x00", b""), (b"\x21\x00", b"ignored"), (b"\x21\x01", b""), (b"\x21\x10", b""), (b"\x21\x20", b"??"),
            (b"\x21\x31", bytes(216)), (b"\x21\x32", bytes(216)), (b"\x21\x30", b""),
        ],
    )  # fmt: skip
    def test_peer_is_the_client(self, kind: bytes, rest: bytes) -> None:
        """LOCAL whatever the family; PROXY with a family or transport that is unknown, or of UNIX sockets."""
        proxied = parse_proxy(SIGNATURE + kind + len(rest).to_bytes(2, "big") + rest + b"payload")

        assert proxied is not None
        assert (proxied.source, proxied.destination) == (b"", b"")
        assert proxied.end == 16 + len(rest)

    @pytest.mark.parametrize(
        "data",
        [
            b"\0", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", SIGNATURE[:-1] + b"\r", SIGNATURE[:5] + b"\1",
            SIGNATURE + b"\x11\x11\0\x0c" + bytes(12), SIGNATURE + b"\x31\x11\0\x0c" + bytes(12),
            SIGNATURE + b"\x22\x11\0\x0c" + bytes(12), SIGNATURE + b"\x21\x41\0\x0c" + bytes(12),
            SIGNATURE + b"\x21\x13\0\x0c" + bytes(12), SIGNATURE + b"\x21\x11\0\x0b" + bytes(12),
            SIGNATURE + b"\x21\x22\0\x23" + bytes(36), SIGNATURE + b"\x20\0\x02\x09", SIGNATURE + b"\x21\0\xff\xff",
        ],
    )  # fmt: skip
    def test_refused(self, data: bytes) -> None:
        """Version 1, other versions, commands, families and transports; addresses cut short; headers too long."""
        assert proxy_end(data) == REFUSED
        assert parse_proxy(data) is None

    def test_longest_header(self) -> None:
        """536 octets are taken; the test above has one more."""
        rest = bytes(MAX_HEADER - 16)
        assert proxy_end(SIGNATURE + b"\x21\x12" + len(rest).to_bytes(2, "big") + rest) == MAX_HEADER

    @given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: SIGNATURE + rest)
           | st.binary(max_size=60).map(lambda rest: SIGNATURE + b"\x21" + rest))  # fmt: skip
    def test_any_octets(self, data: bytes) -> None:
        """Never raises; the header is inside of what is there, and so are the addresses."""
        end, proxied = proxy_end(data), parse_proxy(data)

        assert end in (MORE, REFUSED) or 16 <= end <= len(data)
        assert (proxied is None) == (end <= 0)
        if proxied is not None:
            assert proxied.end == end
            assert len(proxied.source) == len(proxied.destination) in (0, 4, 16)

    def test_proxys_own_query(self) -> None:
        """A LOCAL header is 16 octets, and says nothing of a client."""
        proxied = parse_proxy(LOCAL_HEADER + b"message")
        assert proxied is not None
        assert (proxied.source, proxied.end) == (b"", 16)

    def test_headers_that_cannot_be(self) -> None:
        """The writer refuses two families in one header, and what no reader would take."""
        with pytest.raises(ValueError, match="one family"):
            build_proxy(V4, 1, V6, 53, False)
        with pytest.raises(ValueError, match="536 octets"):
            build_proxy(V4, 1, V4, 53, False, bytes(509))


def oracle(address: bytes, texts: list[str], but_not: list[str]) -> bool:
    """The same question answered with the standard library, network by network."""
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    rules = [(network.prefixlen, not inside) for inside, names in ((True, texts), (False, but_not))
             for text in names for network in parse_networks(text) if ip in network]  # fmt: skip
    return bool(rules) and not max(rules)[1]


@st.composite
def network_texts(draw: st.DrawFn) -> str:
    """Networks crowded into a few places, so that they overlap and touch; the names; IPv4-mapped ones."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(("any", "private", "loopback")))
    size = draw(st.sampled_from((4, 4, 16)))
    bits = size * 8
    near = draw(st.sampled_from((0, (1 << bits) - 1, int.from_bytes((V4, V6)[size == 16], "big"))))
    length = draw(st.sampled_from((0, 1, 2, 3, 15, 16, 17, 18, bits - 2, bits - 1, bits)) | st.integers(0, bits))
    start = (near + (draw(st.integers(-3, 3)) << bits - length)) % (1 << bits)
    network = ipaddress.ip_network((start.to_bytes(size, "big"), length), strict=False)
    if size == 4 and draw(st.integers(0, 4)) == 0:
        return f"::ffff:{network.network_address}/{96 + length}"
    return str(network)


class TestNetworks:
    @settings(max_examples=200)
    @given(st.lists(network_texts(), max_size=6), st.lists(network_texts(), max_size=6), st.lists(addresses))
    def test_agrees_with_the_standard_library(self, texts: list[str], but_not: list[str], others: list[bytes]) -> None:
        """The longest prefix decides, the exception where both are as long; at every edge of every network."""
        networks = Networks(texts, but_not)
        edges = []
        for network in (network for text in texts + but_not for network in parse_networks(text)):
            size = network.max_prefixlen // 8
            first, last = int(network.network_address), int(network.broadcast_address)
            edges += [n.to_bytes(size, "big") for n in (first - 1, first, last, last + 1) if 0 <= n < 1 << size * 8]
        mapped = [bytes(10) + b"\xff\xff" + address for address in edges if len(address) == 4]
        for address in edges + mapped + others:
            assert networks.holds(address) == oracle(address, texts, but_not), address.hex()

    def test_default(self) -> None:
        """Private, shared, link-local and loopback; the neighbours of each are not."""
        clients = Networks(DEFAULT_ALLOW)
        inside = (
            "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255 100.64.0.0 100.127.255.255 "
            "169.254.0.0 169.254.255.255 127.0.0.0 127.255.255.255 ::1 fc00:: fdff:ffff:: fe80:: febf:ffff:: "
            "::ffff:10.1.2.3 ::ffff:127.0.0.1"
        )
        outside = (
            "9.255.255.255 11.0.0.0 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 100.63.255.255 100.128.0.0 "
            "169.253.255.255 169.255.0.0 126.255.255.255 128.0.0.0 :: ::2 fbff:: fe00:: fec0:: 2001:db8::1 8.8.8.8 "
            "::ffff:8.8.8.8 ::10.1.2.3"
        )

        assert [text for text in inside.split() if not clients.holds(packed(text))] == []
        assert [text for text in outside.split() if clients.holds(packed(text))] == []

    def test_part_taken_out_and_put_in_again(self) -> None:
        """Four prefixes inside of each other take turns."""
        clients = Networks(["10.0.0.0/8", "10.1.2.0/24"], ["10.1.0.0/16", "10.1.2.3"])

        assert [clients.holds(packed(text)) for text in ("10.0.0.1", "10.1.1.1", "10.1.2.2", "10.1.2.3")] == [
            True, False, True, False,
        ]  # fmt: skip

    def test_exception_wins_over_its_equal(self) -> None:
        """Also when everybody is in the set otherwise."""
        clients = Networks(["192.0.2.0/24", "any"], ["192.0.2.0/24", "::/0"])

        assert not clients.holds(V4)
        assert not clients.holds(V6)
        assert clients.holds(packed("198.51.100.1"))

    def test_all_ipv6_is_no_ipv4(self) -> None:
        """Whoever writes ::/0 does not let in IPv4 clients of a socket for both."""
        assert not Networks(["::/0"]).holds(packed("::ffff:192.0.2.1"))
        assert Networks(["::ffff:0:0/96"]).holds(V4)
        assert Networks(["any"]).holds(packed("::ffff:192.0.2.1"))

    @given(st.binary(max_size=20).filter(lambda data: len(data) not in (4, 16)))
    def test_octets_of_another_size_are_in_no_set(self, data: bytes) -> None:
        """Not even in that of everybody."""
        assert not Networks(["any"]).holds(data)

    def test_nothing_is_in_the_empty_set(self) -> None:
        """Exceptions do not make the rest a member."""
        assert not Networks([]).holds(V4)
        assert not Networks([], ["private"]).holds(V6)

    @pytest.mark.parametrize(
        "text",
        [
            "", "all", "Private", "1234", " ::1", "010.0.0.1", "fe80::1%eth0", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8",
            "10.0.0.0/8/8", "10.0.0.0/255.0.0.0", "10.0.0.0/\u0668",
        ],
    )  # fmt: skip
    def test_text_that_is_no_network(self, text: str) -> None:
        """One sentence says what is possible."""
        with pytest.raises(ValueError, match="is neither a network, an address, nor one of loopback, private, any"):
            parse_networks(text)

    def test_prefix_that_cannot_be(self) -> None:
        """One sentence says what is wrong, and what was meant perhaps."""
        with pytest.raises(ValueError, match=r"'10.0.0.1/33' has a prefix longer than 32 bits"):
            parse_networks("10.0.0.1/33")
        with pytest.raises(ValueError, match=r"did you mean '10.0.0.0/8'\?"):
            parse_networks("10.1.2.3/8")

    @given(st.text(max_size=30))
    def test_any_text(self, text: str) -> None:
        """A text is read, or refused with one sentence."""
        try:
            said = str(parse_networks(text))
        except ValueError as error:
            said = str(error)
        assert said.startswith(("(IPv4Network(", "(IPv6Network(", repr(text)))


def verdicts(limiter: Limiter, source: bytes, times: list[float]) -> Counter[int]:
    return Counter(limiter.check(source, now) for now in times)


class TestLimiter:
    def test_steady_rate_below_the_limit(self) -> None:
        """Never limited, not even with the smallest burst."""
        limiter = Limiter(20, 1, 2, 1)
        assert verdicts(limiter, V4, [NOW + n / 19.9 for n in range(10_000)]) == {PASS: 10_000}

    def test_flood_gets_the_rate_and_no_more(self) -> None:
        """Ten seconds of ten thousand a second: the burst, and twenty a second."""
        limiter = Limiter(20, 100, 2, 1)
        seen = verdicts(limiter, V4, [NOW + n / 10_000 for n in range(100_000)])

        assert seen[PASS] in (299, 300)
        assert abs(seen[SLIP] - seen[DROP]) <= 1

    @pytest.mark.parametrize("slip", [0, 1, 2, 3, 10])
    def test_every_nth_reply_over_the_limit_slips(self, slip: int) -> None:
        """The first of each n, exactly."""
        limiter = Limiter(1, 1, slip, 1)
        assert limiter.check(V4, NOW) == PASS
        seen = [limiter.check(V4, NOW) for _ in range(100)]

        assert seen == [SLIP if slip and n % slip == 0 else DROP for n in range(100)]

    def test_recovers_after_a_pause(self) -> None:
        """A token comes back in 1 / rate, all of them in burst / rate; a flood is not held against it any longer."""
        limiter = Limiter(10, 30, 0, 1)
        verdicts(limiter, V4, [NOW] * 1000)

        assert limiter.check(V4, NOW + 0.09) == DROP
        assert limiter.limited(NOW + 0.09) == ["192.0.2.0/24"]
        assert verdicts(limiter, V4, [NOW + 0.11] * 2) == {PASS: 1, DROP: 1}
        assert verdicts(limiter, V4, [NOW + 10] * 31) == {PASS: 30, DROP: 1}
        assert limiter.limited(NOW + 20) == []

    def test_prefix_is_one_client(self) -> None:
        """A /24 or a /56 shares a bucket, with its neighbours it does not; an IPv4-mapped address is IPv4."""
        for prefixes, source, same, other in (
            ((24, 56), "192.0.2.1", "192.0.2.254", "192.0.3.1"),
            ((24, 56), "192.0.2.1", "::ffff:192.0.2.9", "::192.0.2.1"),
            ((24, 56), "2001:db8:1:0100::1", "2001:db8:1:01ff::1", "2001:db8:1:0200::1"),
            ((32, 64), "192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ((32, 64), "2001:db8::1", "2001:db8::ffff:0:0:1", "2001:db8:0:1::1"),
            ((1, 1), "128.0.0.0", "255.255.255.255", "127.255.255.255"),
            ((1, 1), "::1", "7fff::", "8000::"),
        ):
            limiter = Limiter(1, 1, 0, 1, None, *prefixes)
            assert [limiter.check(packed(text), NOW) for text in (source, same, other)] == [PASS, DROP, PASS]
            network = ipaddress.ip_network((source, prefixes[":" in source]), strict=False)
            assert str(network) in limiter.limited(NOW)

    def test_exempt_are_never_limited(self) -> None:
        """However much they ask, while others are."""
        limiter = Limiter(1, 1, 0, 1, Networks(["192.0.2.0/24"]))
        assert verdicts(limiter, V4, [NOW] * 100) == {PASS: 100}
        assert verdicts(limiter, V6, [NOW] * 100) == {PASS: 1, DROP: 99}

    @given(st.binary(max_size=20).filter(lambda data: len(data) not in (4, 16)))
    def test_octets_of_another_size_get_nothing(self, data: bytes) -> None:
        """Nobody can be answered there."""
        assert Limiter(1, 1, 1, 1).check(data, NOW) == DROP

    @given(
        st.sampled_from((0.5, 1, 4, 32)), st.integers(1, 6), st.integers(0, 4), st.integers(0, 2**64 - 1),
        st.lists(st.tuples(st.integers(0, 7), st.integers(0, 40)), max_size=300),
    )  # fmt: skip
    def test_agrees_with_buckets_that_hold_tokens(
        self, rate: float, burst: int, slip: int, seed: int, queries: list[tuple[int, int]]
    ) -> None:
        """For as many prefixes as fit in any case; the numbers are such that floating point is exact."""
        limiter = Limiter(rate, burst, slip, seed, buckets=16)
        tokens, seen, over = dict.fromkeys(range(8), float(burst)), dict.fromkeys(range(8), NOW), Counter[int]()
        now = NOW
        for source, pause in queries:
            now += pause / 64
            tokens[source] = min(burst, tokens[source] + (now - seen[source]) * rate)
            seen[source] = now
            verdict = limiter.check(bytes((192, 0, source, 1)), now)
            if tokens[source] >= 1:
                tokens[source] -= 1
                assert verdict == PASS
            else:
                assert verdict == (SLIP if slip and over[source] % slip == 0 else DROP)
                over[source] += 1

    @pytest.mark.parametrize("size", [4, 16])
    def test_many_random_sources_take_no_memory(self, size: int) -> None:
        """No object is left behind; the table was made at the start."""
        rng = random.Random(size)
        limiter = Limiter(20, 100, 2, rng.getrandbits(64))
        before = sys.getallocatedblocks()
        for turn in range(300_000):
            limiter.check(rng.randbytes(size), NOW + turn / 100_000)

        assert sys.getallocatedblocks() - before < 1000

    def test_flood_of_random_sources_hides_nobody_and_harms_nobody(self) -> None:
        """Beside 50000 forged sources a second: who floods gets the limit, who asks a little gets everything."""
        rng = random.Random(5)
        limiter = Limiter(20, 40, 2, rng.getrandbits(64))
        offender, neighbour = Counter[int](), Counter[int]()
        for n in range(150_000):
            now = NOW + n / 50_000
            limiter.check(rng.randbytes(4), now)
            if n % 50 == 0:  # a thousand a second
                offender[limiter.check(V6, now)] += 1
            if n % 5000 == 0:  # ten a second
                neighbour[limiter.check(packed("2001:db8:1::1"), now)] += 1

        assert 95 <= offender[PASS] <= 101
        assert neighbour == {PASS: 30}
        assert limiter.limited(now) == ["2001:db8::/56"]

    @pytest.mark.parametrize("buckets", [16, 64, 1000, 1024])
    def test_every_bucket_is_used(self, buckets: int) -> None:
        """There are as many as asked for, or the next power of two; each has its burst to give, once."""
        rng = random.Random(7)
        limiter = Limiter(1, 2, 0, rng.getrandbits(64), buckets=buckets)
        seen = Counter(limiter.check(rng.randbytes(16), NOW) for _ in range(30_000))

        assert seen[PASS] == 2 * (1024 if buckets == 1000 else buckets)

    def test_many_names_gain_nothing_where_the_table_is_full(self) -> None:
        """All that more sources than buckets get together is what so many buckets hold."""
        rng = random.Random(6)
        limiter = Limiter(1, 4, 0, rng.getrandbits(64), buckets=16)
        seen = Counter(limiter.check(rng.randbytes(4), NOW + n / 10_000) for n in range(100_000))

        assert seen[PASS] <= 16 * (4 + 10)

    @pytest.mark.parametrize(
        "bad",
        [
            {"rate": 0}, {"rate": float("nan")}, {"burst": 0}, {"slip": -1}, {"slip": 101}, {"prefix4": 0},
            {"prefix4": 33}, {"prefix6": 65}, {"buckets": 8},
        ],
    )  # fmt: skip
    def test_limit_that_makes_no_sense(self, bad: dict[str, Any]) -> None:
        """One sentence names the number and its range."""
        with pytest.raises(ValueError, match="of a limit is between"):
            Limiter(**{"rate": 1, "burst": 1, "slip": 2, "seed": 1, **bad})
