"""Views as configured, the keys of what they answer, and who is in which: without sockets."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.entries import same

from rdnscache.cache import Cache
from rdnscache.clients.networks import MOST_GROUPS, Networks
from rdnscache.config import Config, load
from rdnscache.decider import Decider
from rdnscache.dns import question
from rdnscache.dns.entry import Entry
from rdnscache.dns.names import parse_name, question_text
from rdnscache.dns.policy import without_records
from rdnscache.dns.question import question_key
from rdnscache.dns.wire import NXDOMAIN, build_query, parse_query
from rdnscache.errors import ConfigError
from rdnscache.group_policies import load_policies
from rdnscache.policy.rules import no_policy
from rdnscache.routing import digests, make_views
from rdnscache.store.contract import Names
from rdnscache.store.scope import Scope
from rdnscache.view import OPTIONS

pytestmark = pytest.mark.pure

names = st.lists(st.binary(min_size=1, max_size=8).map(bytes.lower), max_size=4).map(
    lambda labels: b"".join(bytes((len(each),)) + each for each in labels) + b"\0"
)
keys = st.builds(question_key, names, st.integers(0, 65535), st.sampled_from((1, 3)), st.integers(0, 3))
subnets = st.none() | st.binary(min_size=16, max_size=16).map(lambda rest: b"\1\x18" + rest)


class TestKeys:
    @given(keys, subnets, st.integers(0, 250))
    def test_of_a_view(self, key: bytes, network: bytes | None, number: int) -> None:
        """The parts of a key are found whatever is in it; without the view's number it is the bare one."""
        name, bits = question.qname(key), question.variant(key)
        bare = question.with_subnet(key, network) if network else key
        marked = question.with_view(bare, number)

        assert question.view_number(marked) == number
        assert question.view_number(bare) == -1
        assert (question.qname(marked), question.section(marked)) == (name, key[:-1])
        assert (question.qtype(marked), question.qclass(marked)) == (question.qtype(key), question.qclass(key))
        assert question.subnet(marked) == (network or b"")
        assert question.variant(marked) & 3 == bits
        assert question.bare_key(marked) == bare
        assert question.bare_key(bare) == bare
        assert question.wider_key(marked) == question.with_view(question.wider_key(bare), number)
        if network:
            assert question.with_subnet(question.with_view(key, number), network) == marked

    @given(keys, subnets, st.binary(min_size=8, max_size=8))
    def test_of_a_route(self, key: bytes, network: bytes | None, route: bytes) -> None:
        """It is a question like any other, to upstreams and in Redis, under a key of its own."""
        bare = question.with_subnet(key, network) if network else key
        routed = question.with_route(bare, route)

        assert (question.route_of(routed), question.route_of(bare)) == (route, b"")
        assert (question.qname(routed), question.section(routed)) == (question.qname(key), key[:-1])
        assert question.subnet(routed) == (network or b"")
        assert question.bare_key(routed) == bare
        assert question.wider_key(routed) == question.with_route(question.wider_key(bare), route)
        assert build_query(b"ab", routed, True) == build_query(b"ab", bare, True)
        assert f"via={route.hex()}" in question_text(routed)

    @given(names, st.sampled_from((1, 28, 65280)), st.integers(0, 3), st.booleans(), st.binary(min_size=8, max_size=8))
    def test_in_redis(self, name: bytes, number: int, bits: int, networked: bool, route: bytes) -> None:
        """The text of a key leads back to it, and to that of its name's NXDOMAIN."""
        redis, key = Names("rdns"), question_key(name, number, 1, bits)
        key = question.with_route(question.with_subnet(key, b"\1\x18" + bytes(16)) if networked else key, route)

        assert redis.question(redis.entry(key).decode()) == key
        assert redis.wider_entry(redis.entry(key)) == redis.entry(question.wider_key(key))

    def test_a_flush_means_them(self) -> None:
        """By name and by zone, as it means the bare key."""
        key = question_key(parse_name("www.example.com"), 1, 1, 0)
        for marked in (question.with_view(key, 3), question.with_route(key, b"12345678")):
            assert Scope(name=parse_name("www.example.com")).holds_question(marked)
            assert Scope(zone=parse_name("example.com"), qtype=1).holds(marked, 0)
            assert not Scope(name=parse_name("example.com")).holds_question(marked)


networks = st.one_of(
    st.tuples(st.integers(0, 255), st.sampled_from((8, 15, 16, 17, 24, 31, 32))).map(
        lambda each: str(ipaddress.ip_network((each[0] * 0x01010101, each[1]), strict=False))
    ),
    st.tuples(st.integers(0, 255), st.sampled_from((3, 16, 32, 48, 127, 128))).map(
        lambda each: str(ipaddress.ip_network((each[0] << 120 | each[0] << 40, each[1]), strict=False))
    ),
    st.just("any"),
)
group_texts = st.lists(networks, max_size=4)


class TestGroups:
    @given(st.lists(networks, max_size=3), st.lists(networks, max_size=2), st.lists(group_texts, max_size=4))
    def test_agrees_with_the_standard_library(
        self, allow: Sequence[str], deny: Sequence[str], groups: Sequence[Sequence[str]]
    ) -> None:
        """Of those who are allowed, the group with the longest prefix, the later of two as long; at every edge."""
        found = Networks(allow, deny, list(enumerate(groups, 1)))
        for address in self._edges([*allow, *deny, *(text for group in groups for text in group)]):
            expected = -1
            if Networks(allow, deny).holds(address.packed):
                fitting = [
                    (network.prefixlen, number)
                    for number, group in enumerate(groups, 1)
                    for network in self._networks(group)
                    if address.version == network.version and address in network
                ]
                expected = max(fitting, default=(0, 0))[1]
            assert found.group(address.packed) == expected

    def _networks(self, texts: Sequence[str]) -> list[Any]:
        return [ipaddress.ip_network(each) for text in texts
                for each in (("0.0.0.0/0", "::/0") if text == "any" else (text,))]  # fmt: skip

    def _edges(self, texts: Sequence[str]) -> list[Any]:
        found = [ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1")]
        for network in self._networks(texts):
            kind = type(network.network_address)
            first, last = int(network.network_address), int(network.broadcast_address)
            found += [
                kind(each) for each in (first - 1, first, last, last + 1) if 0 <= each < 1 << network.max_prefixlen
            ]
        return [each for each in found if not getattr(each, "ipv4_mapped", None)]

    def test_mapped_addresses(self) -> None:
        """An IPv4 client of an IPv6 socket is in its group, too; and many groups do not get mixed up."""
        groups = [(number, (f"10.{number}.0.0/24",)) for number in range(1, MOST_GROUPS + 1)]
        found = Networks(["any"], (), groups)
        for number in range(1, MOST_GROUPS + 1):
            address = bytes((10, number, 0, 9))
            assert found.group(address) == found.group(bytes(10) + b"\xff\xff" + address) == number


def deciders(count: int) -> list[Decider]:
    return [Decider(no_policy(), Cache(1, 1), "n1") for _ in range(count)]


def config(*views: Any, **options: Any) -> Config:
    return load(None, {"upstream": ("192.0.2.53",), "view": views} | options, {})


class TestOptions:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('{name = "a", clients = ["10.0.0.0/8"], blok = ["x"]}', "'blok' is no key of a view: did you mean block?"),
            ('{name = "a", clients = ["10.0.0.0/8"], secret = "x"}', "'secret' is no key of a view: there are name, "),
            ('{name = "a"}', "view a has no clients: name their networks in clients, listeners in listen, or"),
            ('{name = "a", tls_names = ["a b.test"]}', "tls_names: 'a b.test' is neither a host name nor *."),
            ('{name = "a", tls_names = ["*"]}', "view a: tls_names: '*' is neither a host name"),
            ('{name = "a", tls_names = ["*.*.test"]}', "view a: tls_names: '*.*.test' is neither a host name"),
            ('{name = "a", tls_names = [""]}', "view a: tls_names: '' is neither a host name"),
            ('{name = "a", tls_names = ["."]}', "view a: tls_names: '.' is neither a host name"),
            ('{name = "a", tls_names = [7]}', "view a: tls_names: '7' is neither a host name"),
            ('{name = "a", tls_names = "x.test"}', "view a has tls_names, which balancers tell: name "),
            ('[{name = "a", tls_names = "X.test."}, {name = "b", tls_names = ["y.test", "x.test"]}]',
             "0.0.0.0/0 with x.test is in two views, a and b"),
            ('[{name = "a", tls_names = [' + ",".join(f'"n{number}.test"' for number in range(10_001)) + "]}]",
             "the views have more than 10000 tls_names, the limit"),
            ('{name = "a", clients = []}', "view a: clients: [] is not a list of networks"),
            ('{name = "a", clients = ["10.0.0.0/33"]}', "view a: clients: '10.0.0.0/33' has a prefix"),
            ('{clients = ["10.0.0.0/8"]}', "a view has a name of 1 to 64 letters"),
            ('{name = "default", clients = ["any"]}', "the name default is that of all clients in no view"),
            ('{name = "a", clients = ["any"], listen = ["192.0.2.1:53"]}',
             "view a: the node does not listen on 192.0.2.1:53, which is in its listen"),
            ('[{name = "a", clients = ["10.0.0.0/8"]}, {name = "a", clients = ["::1"]}]',
             "there are two views with the name a"),
            ('[{name = "a", clients = ["private"]}, {name = "b", clients = ["::1", "10.0.0.0/8"]}]',
             "10.0.0.0/8 is in two views, a and b"),
            ('[{name = "a", listen = ["127.0.0.1:5300"]}, {name = "b", clients = "any", listen = "127.0.0.1:5300"}]',
             "0.0.0.0/0 at 127.0.0.1:5300 is in two views, a and b"),
            ('{name = "a", clients = ["any"], block_answer = "maybe"}', "view a: block_answer: 'maybe' is neither"),
            ('{name = "a", clients = ["any"], zone = [{name = "x.test", upstream = "none", ttl = 3}]}',
             "view a: zone: 'ttl' is no key of a zone"),
            ('{name = "a", clients = ["any"], zone = [{name = "x.test", upstream = "192.0.2.1", ttl_min = 90000}]}',
             "view a: zone: zone 'x.test': ttl_min: 90000 is not between 0 and 86400"),
            ('{name = "a", clients = ["any"], zone = [{name = "x.test", upstream = "::1", ttl_max = 5, ttl_min = 6}]}',
             "view a, zone x.test.: ttl_min (6) is above ttl_max (5)"),
            ('{name = "a", clients = ["any"], upstream = "127.0.0.1:5300"}', "view a: upstream 127.0.0.1:5300 is"),
            ('{name = "a", clients = ["any"], dns64 = "yes", filter_types = ["A"]}', "view a: "),
            ("kids=10.0.0.0/8", "'kids=10.0.0.0/8' is no view, which is a table"),
            (3, "'3' is no view, which is a table"),
            ("[" + ",".join(f'{{name="v{number}", clients=["10.{number}.0.0/16"]}}' for number in range(251)) + "]",
             "there are 251 views; 250 is the limit"),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, text: str, reason: str) -> None:
        """In one sentence that says in which view, and what would be right."""
        with pytest.raises(ConfigError) as told:
            config(text)
        assert reason in str(told.value)
        assert "\n" not in str(told.value)

    def test_names_in_tls(self) -> None:
        """In lower case, by IDNA, each once; as configured they can be read again."""
        text = '{name = "a", tls_names = ["Office.DNS.example.", "*.bücher.example", "office.dns.example"]}'
        found = config(text, proxy_from=("loopback",)).view[0]

        assert found.tls_names == ("office.dns.example", "*.xn--bcher-kva.example")
        assert load(None, {"view": (found.table(),), "proxy_from": ("::1",)}, {}).view == (found,)

    def test_clients_that_are_not_allowed(self) -> None:
        """A view of nobody is pointed out: `allow` is another matter."""
        told: list[str] = []
        for clients, allow in (
            ("198.51.100.0/24", ("private",)),
            ("10.1.0.0/16", ("private",)),
            ("any", ("::1",)),
            ("::1", ("any",)),
            ("10.0.0.9", ("10.0.0.9",)),
        ):
            text = f'{{name = "a", clients = ["{clients}"]}}'
            load(None, {"upstream": ("192.0.2.53",), "view": (text,), "allow": allow}, {}, told.append)
        assert told == ["view a: none of its clients is answered, allow has other networks"]

    def test_what_a_view_does_not_set_is_the_nodes(self) -> None:
        """An empty list is set."""
        found = config('{name = "a", clients = ["any"], block = [], block_answer = "null"}', block=("x",), pass_=("y",))
        inside = found.inside_view(found.view[0])

        assert (inside.block, inside.pass_, inside.block_answer) == ((), ("y",), "null")
        assert (found.block, found.block_answer) == (("x",), "nxdomain")

    def test_options_that_a_view_may_have(self) -> None:
        """Each is an option of a node that a reload may change."""
        assert all(not Config.__dataclass_fields__[name].metadata["fixed"] for name in OPTIONS)


class TestRoutes:
    def test_where_they_are_those_of_everybody(self) -> None:
        """A view that asks the same servers for a question shares it, though its zones are written otherwise."""
        found = config(
            '[{name="a", clients=["10.1.0.0/16"]},'
            ' {name="b", clients=["10.2.0.0/16"], zone=["corp.test=192.0.2.1", "www.corp.test=192.0.2.2"]},'
            ' {name="c", clients=["10.3.0.0/16"], zone=["corp.test=192.0.2.1", "www.corp.test=192.0.2.2"]},'
            ' {name="d", clients=["10.4.0.0/16"], zone=["corp.test=192.0.2.1", "sub.corp.test=192.0.2.1"]}]',
            zone=("corp.test=192.0.2.1",),
        )
        views = make_views(found, deciders(1) * 5, {}, Cache(10, 1 << 20))
        assert views is not None
        assert list(views.marks) == [0, 0, 2, 2, 4]

        def raw(name: str, number: int) -> bytes:
            assert views is not None
            return views.raw_key(question.with_view(question_key(parse_name(name), 1, 1, 0), number))

        for name in ("test", "a.corp.test", "sub.corp.test"):
            assert raw(name, 2) == raw(name, 4) == question_key(parse_name(name), 1, 1, 0)
        own = raw("www.corp.test", 2)
        assert question.route_of(own) == digests(found.inside_view(found.view[1])).of(question.bare_key(own))
        assert raw("www.corp.test", 4) == question.bare_key(own)


class TestWhomZonesLetPass:
    def test_groups_have_a_bound(self, tmp_path: Path) -> None:
        """One for each zone of each group, as far as a key has room for their numbers; views come first."""
        files = tuple(str(tmp_path / f"{number}.rpz") for number in range(3))
        for file in files:
            Path(file).write_text("@ SOA ns root 1 2 3 4 5\n")
        for count, exempt in ((0, 3), (1, 6), (MOST_GROUPS - 2, 2), (MOST_GROUPS, 0)):
            views = [f'{{name="v{number}", clients=["10.0.{number}.0/24"]}}' for number in range(count)]
            policies = load_policies(config(*views, rpz=files))
            assert list(policies.exempt.values()) == list(range(count + 1, count + 1 + exempt))
            assert len(policies.groups) == count + 1 + exempt <= MOST_GROUPS + 1
            assert [policies.groups[number].before for number in policies.exempt.values()][:3] == [0, 1, 2][:exempt]


class TestEntries:
    def test_a_name_that_does_not_exist(self) -> None:
        """Under a view's key it is of all types as well, and ends with the one it was made of."""
        found = config('{name="a", clients=["any"], upstream="192.0.2.1"}')
        cache = Cache(10, 1 << 20)
        views = make_views(found, deciders(2), {}, cache)
        assert views is not None
        query = parse_query(build_query(b"ab", question_key(parse_name("no.test"), 1, 1, 0), True), False)
        assert query is not None
        query.group, query.key = 1, question.with_view(question_key(parse_name("no.test"), 1, 1, 0), 1)
        marked = query.key
        assert views.told(query, 100.0) is None
        assert question.route_of(query.key)
        entry = Entry(question.wider_key(query.key), without_records(query.key, NXDOMAIN), 100.0, 60, 0, "from=x")
        assert views.answer(query, entry).key == question.wider_key(marked)
        assert len(cache) == 0  # it has not been kept, so nothing is
        cache.learn(query.key, entry, 100.0)
        own = views.answer(query, entry)
        assert own.key == question.wider_key(marked)
        assert same(views.answer(query, entry), own)
        other = question.with_view(question_key(parse_name("no.test"), 28, 1, 0), 1)
        assert same(cache.get(other, 159.0), own)
        assert cache.get(other, 161.0) is None
