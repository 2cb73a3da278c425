"""Zones: how people write them, and which one a question is in."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdnscache.config import Config, load, options
from rdnscache.config_text import plain
from rdnscache.dns.names import name_text, parse_name
from rdnscache.dns.policy import EMPTY_ZONE_TTL, empty_zone
from rdnscache.dns.question import question_key
from rdnscache.dns.zones import Zones, is_below
from rdnscache.endpoint import Endpoint
from rdnscache.errors import ConfigError
from rdnscache.forwards import MOST
from rdnscache.zone import MOST_CHANGED, MOST_NAMES, Zone, changed

#: About modules that are not compiled.
pytestmark = [pytest.mark.once, pytest.mark.pure]

OPTION = next(option for option in options() if option.name == "zone")
BASE = {"upstream": ("192.0.2.53",)}


#: One server too many.
MANY = [f"10.0.{number // 256}.{number % 256}:1" for number in range(MOST + 1)]


def parse(*raw: Any) -> tuple[Zone, ...]:
    found: tuple[Zone, ...] = OPTION.metadata["parse"](list(raw))
    return found


def config(file: Path, text: str) -> Config:
    file.write_text(text)
    return load(str(file), BASE, {})


def key(name: str, rtype: int = 1) -> bytes:
    return question_key(parse_name(name), rtype, 1, 0)


class TestText:
    def test_servers_in_any_form(self) -> None:
        """Addresses and URLs, between commas; commas inside a URL separate nothing."""
        (zone,) = parse("Corp.Example=10.0.0.53,tls://dns.corp?address=10.0.0.54,10.0.0.55")
        assert zone.names == ("corp.example.",)
        assert [each.label for each in zone.upstream] == [
            "10.0.0.53:53", "tls://10.0.0.54:853#dns.corp", "tls://10.0.0.55:853#dns.corp",
        ]  # fmt: skip

    def test_several_names_and_several_zones(self) -> None:
        """Names of one zone are between commas, zones between spaces."""
        zones = parse("a.example,b.example=192.0.2.1 c.example=None", "d.example=default")
        assert [(zone.names, zone.word) for zone in zones] == [
            (("a.example.", "b.example."), ""), (("c.example.",), "none"), (("d.example.",), "default"),
        ]  # fmt: skip

    def test_a_name_of_any_script(self) -> None:
        """As IDNA has it, like every name a person types."""
        assert parse("bücher.example=none")[0].names == ("xn--bcher-kva.example.",)

    def test_a_reverse_zone_of_rfc_2317(self) -> None:
        """A name with a slash that is no network stays a name."""
        assert parse("0/25.2.0.192.in-addr.arpa=none")[0].names == ("0\\04725.2.0.192.in-addr.arpa.",)

    @pytest.mark.parametrize(
        ("network", "names"),
        [
            ("10.0.0.0/8", ["10.in-addr.arpa."]),
            ("192.168.0.0/16", ["168.192.in-addr.arpa."]),
            ("172.16.0.0/12", [f"{number}.172.in-addr.arpa." for number in range(16, 32)]),
            ("192.0.2.1", ["1.2.0.192.in-addr.arpa."]),
            ("fd00::/8", ["d.f.ip6.arpa."]),
            ("2001:db8::/33", [f"{digit}.8.b.d.0.1.0.0.2.ip6.arpa." for digit in "01234567"]),
            ("0.0.0.0/0", ["in-addr.arpa."]),
        ],
    )
    def test_a_network_stands_for_its_reverse_zones(self, network: str, names: list[str]) -> None:
        """Between two labels, for all of those inside it."""
        assert list(parse(f"{network}=192.0.2.1")[0].names) == names

    @given(st.integers(0, 32), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
    def test_exactly_the_addresses_of_a_network_are_inside(self, length: int, base: int, other: int) -> None:
        """dnspython as the oracle for reverse names."""
        network = ipaddress.ip_network((base, length), strict=False)
        zones: Zones[bool] = Zones(False, {parse_name(name): True for name in parse(f"{network}=none")[0].names})
        for number in (base, other):
            address = ipaddress.ip_address(number)
            name = dns.reversename.from_address(str(address)).to_text()
            assert zones.of(key(name, 12)) == (address in network)

    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            ("corp.example", "is not a zone and its servers"), ("corp.example=", "has no server"),
            ("=192.0.2.1", "cannot be a zone"), (".=192.0.2.1", "the usual upstreams"),
            ("corp.example=none,192.0.2.1", "none beside other servers"), ("*.example=192.0.2.1", "without '*'"),
            ("a..example=192.0.2.1", "is not a domain name"), ("10.0.0.1/8=192.0.2.1", "write 10.0.0.0/8"),
            ("10/8=192.0.2.1", "write all four numbers"), ("192.168/16=none", "write all four numbers"),
            ("corp.example=dns.example", "IP address"), ("x.example=none x.EXAMPLE.=none", "x.example. is given twice"),
            ("10.0.0.0/99=none", "is not a network"), (17, "is neither a zone"), (None, "is neither a zone"),
        ],
    )  # fmt: skip
    def test_what_is_no_zone(self, raw: object, reason: str) -> None:
        """One sentence that says why."""
        with pytest.raises(ValueError, match=reason):
            parse(raw)

    def test_there_are_bounds(self) -> None:
        """A million names are refused, not gone through for ever."""
        with pytest.raises(ValueError, match="is the limit"):
            parse(" ".join(f"n{number}.example=none" for number in range(MOST_NAMES + 1)))


class TestTables:
    def test_a_table_has_settings_of_its_own(self, tmp_path: Path) -> None:
        """What it does not say is as everywhere."""
        found = config(
            tmp_path / "node.toml",
            """
            ttl_max = 1000
            [[zone]]
            name = ["corp.example", "10.0.0.0/8"]
            upstream = ["10.0.0.53", "tcp://10.0.0.54"]
            policy = "ordered"
            timeout = 0.5
            deadline = 9
            ttl_min = 60
            stale_window = 0
            [[zone]]
            name = "home.arpa"
            upstream = "none"
            """,
        )
        inside = found.inside(found.zone[0])
        assert found.zone[0].names == ("corp.example.", "10.in-addr.arpa.")
        assert [each.label for each in inside.upstream] == ["10.0.0.53:53", "tcp://10.0.0.54:53"]
        assert (inside.upstream_policy, inside.upstream_timeout, inside.upstream_deadline) == ("ordered", 0.5, 9.0)
        assert (inside.ttl_min, inside.ttl_max, inside.stale_window) == (60, 1000, 0)
        assert found.longest_deadline == 9.0
        assert found.upstream_deadline == 4.5
        assert found.zone[1].word == "none"
        assert [each.label for each in found.endpoints] == ["192.0.2.53:53", "10.0.0.53:53", "tcp://10.0.0.54:53"]

    def test_what_check_config_prints_can_be_read_again(self, tmp_path: Path) -> None:
        """Tables stay tables."""
        text = '[[zone]]\nname = "a.example"\nupstream = ["192.0.2.1:53", "192.0.2.2:53"]\nttl_max = 5\n'
        found = config(tmp_path / "one.toml", text)
        tables = plain(OPTION, found.zone)
        again = "".join(
            "[[zone]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())
            for table in tables
        )
        assert config(tmp_path / "two.toml", again) == found

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('upstream = "192.0.2.1"', "a zone has the name"),
            ('name = "a.example"', "zone 'a.example': a zone has its servers"),
            ('name = ""\nupstream = "none"', "a zone has the name"),
            ('name = [7]\nupstream = "none"', "a zone has the name"),
            ('name = "a.example"\nupstream = "none"\nlatency = 1', "'latency' is no key of a zone"),
            ('name = "a.example"\nupstream = "none"\nupstream_policy = 1', "did you mean policy"),
            ('name = "a.example"\nupstream = "none"\nttl_min = "x"', "zone 'a.example': ttl_min: 'x' is not a whole"),
            ('name = "a.example"\nupstream = "192.0.2.1"\ntimeout = 9', "zone a.example.: .*timeout .9.0. is above"),
            ('name = "a.example"\nupstream = "0.0.0.0"', "zone a.example.: upstream 0.0.0.0:53 is not an address"),
            ('name = "a.example"\nupstream = "192.0.2.53?weight=3"', "named twice, with different parameters"),
            (f'name = "a.example"\nupstream = {MANY}', "is the limit"),
        ],
    )  # fmt: skip
    def test_what_is_no_table_of_a_zone(self, tmp_path: Path, text: str, reason: str) -> None:
        """One sentence, with the zone it is about."""
        with pytest.raises(ConfigError, match=reason):
            config(tmp_path / "node.toml", f"[[zone]]\n{text}\n")

    def test_other_options_have_no_tables(self, tmp_path: Path) -> None:
        """As before."""
        with pytest.raises(ConfigError, match="is a table"):
            config(tmp_path / "node.toml", "[[listen]]\nname = 1\n")


class TestWhichZone:
    zones = Zones(
        "usual",
        {parse_name(name): name for name in ("example", "corp.example", "a.b.corp.example", "closed", "x.y.closed")},
        [parse_name("closed")],
    )

    @pytest.mark.parametrize(
        ("name", "found"),
        [
            (".", "usual"), ("org", "usual"), ("example", "example"), ("www.example", "example"),
            ("corp.example", "corp.example"), ("b.corp.example", "corp.example"),
            ("c.a.b.corp.example", "a.b.corp.example"), ("notcorp.example", "example"), ("corp.example.org", "usual"),
            ("WWW.Corp.EXAMPLE", "corp.example"), ("x.y.closed", "x.y.closed"), ("z.closed", "closed"),
        ],
    )  # fmt: skip
    def test_the_longest_suffix_wins(self, name: str, found: str) -> None:
        """Label by label, whatever the case."""
        assert self.zones.of(key(name)) == found

    def test_octets_of_a_label_are_no_labels(self) -> None:
        """A label that holds what a zone looks like on the wire is not that zone."""
        name = bytes((14,)) + b"\4corp\7example" + b"\1" + parse_name("org")
        assert self.zones.of(question_key(name[:15] + parse_name("org"), 1, 1, 0)) == "usual"

    def test_the_ds_of_a_zone_is_the_parents(self) -> None:
        """RFC 4035 section 3.1.4.1; but of a zone that must not leave, nothing does."""
        ds = dns.rdatatype.DS
        assert self.zones.of(key("corp.example", ds)) == "example"
        assert self.zones.of(key("example", ds)) == "usual"
        assert self.zones.of(key("www.corp.example", ds)) == "corp.example"
        assert self.zones.of(key("closed", ds)) == "closed"
        assert self.zones.of(key("x.y.closed", ds)) == "closed"

    def test_names_above_a_zone_exist(self) -> None:
        """RFC 8020: below a name that does not exist there is nothing."""
        assert self.zones.exists(parse_name("y.closed"))
        assert not self.zones.exists(parse_name("w.y.closed"))

    @given(st.lists(st.sampled_from(["a", "b", "corp"]), max_size=6), st.lists(st.sampled_from(["a", "b"]), max_size=3))
    def test_below(self, labels: list[str], zone: list[str]) -> None:
        """dnspython as the oracle."""
        name, above = ".".join(labels) + ".", ".".join(zone) + "."
        expected = dns.name.from_text(name).is_subdomain(dns.name.from_text(above))
        assert is_below(parse_name(name), parse_name(above)) == expected


class TestChanges:
    def zones(self, *raw: str) -> tuple[Zone, ...]:
        return parse(*raw) if raw else ()

    def test_what_is_asked_otherwise(self) -> None:
        """Zones that come, go, or have others to ask; what stays as it is, in whatever order, does not count."""
        before = self.zones("same.example=192.0.2.1", "gone.example=none", "other.example=192.0.2.1")
        after = self.zones("other.example=192.0.2.2", "new.example=default", "same.example=192.0.2.1")
        assert changed(before, after) == ["gone.example.", "new.example.", "other.example."]
        assert changed(before, before) == []

    def test_a_zone_below_another_is_flushed_with_it(self) -> None:
        """Once is enough."""
        assert changed((), self.zones("a.corp.example=none", "corp.example=none", "xcorp.example=none")) == [
            "corp.example.", "xcorp.example.",
        ]  # fmt: skip

    def test_settings_count(self) -> None:
        """TTLs are part of what is stored."""
        first = Zone(("a.example.",), (Endpoint.parse("192.0.2.1")[0],))
        second = Zone(first.names, first.upstream, settings=(("ttl_max", 5),))
        assert changed([first], [second]) == ["a.example."]

    def test_too_many_are_everything(self) -> None:
        """A flush for each of a thousand zones would take longer than forgetting everything."""
        assert changed((), [Zone((f"n{number}.example.",), word="none") for number in range(MOST_CHANGED + 1)]) == ["."]


class TestEmptyZone:
    """What a zone that must not leave says, dnspython as the reader."""

    @pytest.mark.parametrize(("name", "exists"), [("www.home.arpa", False), ("home.arpa", True)])
    def test_it_denies(self, name: str, exists: bool) -> None:
        """NXDOMAIN, or NODATA for its own name, with a SOA by which that is kept (RFC 6303 section 3)."""
        reply = dns.message.from_wire(empty_zone(key(name), parse_name("home.arpa"), exists).wire)
        assert reply.rcode() == (dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN)
        assert reply.question[0].name.to_text() == name + "."
        assert not reply.answer
        (soa,) = reply.authority
        assert (soa.name.to_text(), soa.ttl, soa[0].minimum) == ("home.arpa.", EMPTY_ZONE_TTL, EMPTY_ZONE_TTL)
        assert soa[0].mname.to_text() == "home.arpa."

    def test_names_as_long_as_they_can_be(self) -> None:
        """The pointer to the zone's name reaches it."""
        zone = "z" * 60
        name = name_text(parse_name(".".join(["a" * 63, "b" * 63, "c" * 61, zone])))
        reply = dns.message.from_wire(empty_zone(key(name), parse_name(zone), False).wire)
        assert reply.authority[0].name.to_text() == zone + "."
