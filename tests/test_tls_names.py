"""Views by the name that clients named in TLS, as a proxy tells it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdnscache.clients.networks import Networks
from rdnscache.clients.proxy import AUTHORITY, MAX_HEADER, build_proxy, parse_proxy, tls_name
from rdnscache.clients.tls_names import TlsNames

pytestmark = pytest.mark.pure

V4 = bytes((192, 0, 2, 1))


def field(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def named(fields: bytes, source: bytes = V4) -> bytes:
    """What a header with these fields says that the client named."""
    data = build_proxy(source, 1, source, 53, True, fields) + b"message"
    header = parse_proxy(data)
    assert header is not None
    return tls_name(data, header.end)


class TestHeader:
    @pytest.mark.parametrize("source", [V4, V4 * 4])
    def test_the_name_wherever_it_stands(self, source: bytes) -> None:
        """In lower case and without a dot at its end; of several the first."""
        name = field(AUTHORITY, b"Office.DNS.example.")
        assert named(name, source) == b"office.dns.example"
        assert (
            named(field(1, b"dot") + field(4, b"") + name + field(AUTHORITY, b"x.test"), source)
            == b"office.dns.example"
        )

    @pytest.mark.parametrize(
        "value",
        [b"", b".", b"a..b", b"-\n", b"a b", b"a/b", b"\0", b"\xff.test", b"a" * 64 + b".test", b"a." * 127 + b"a",
         b"x" * 300, "bücher.test".encode()],
    )  # fmt: skip
    def test_what_is_no_host_name(self, value: bytes) -> None:
        """Counts as none: too long, empty labels, other characters."""
        assert named(field(AUTHORITY, value)) == b""

    def test_the_longest_name(self) -> None:
        """253 octets, with and without a dot at the end."""
        name = b".".join([b"a" * 63] * 3 + [b"b" * 61])
        assert named(field(AUTHORITY, name)) == named(field(AUTHORITY, name + b".")) == name

    @pytest.mark.parametrize("fields", [b"", b"\2", b"\2\0", b"\2\0\5a.b", b"\1\xff\xff\2\0\1a", b"\4\0\1\2\0\1"])
    def test_fields_that_end_too_early(self, fields: bytes) -> None:
        """Nothing is read beyond the header: what follows is the message."""
        assert named(fields) == b""

    @given(st.binary(max_size=MAX_HEADER - 52))
    def test_any_fields(self, fields: bytes) -> None:
        """They say a host name or none."""
        found = named(fields)
        assert found == b"" or (len(found) <= 253 and found == found.lower() and all(found.split(b".")))


class TestGroups:
    def test_by_name(self) -> None:
        """The name itself before the longest wildcard, which is not the name above it; otherwise as ever."""
        names = TlsNames({"a.test": 1, "*.a.test": 2, "*.b.a.test": 3, "*.test": 4})
        wanted = {b"a.test": 1, b"x.a.test": 2, b"b.a.test": 2, b"y.x.a.test": 2, b"x.b.a.test": 3, b"z.test": 4,
                  b"test": 9, b"other": 9, b"": 9}  # fmt: skip
        assert {name: names.group(name, V4, 9) for name in wanted} == wanted

    def test_by_name_and_network(self) -> None:
        """Who is in none of a name's networks may be in those of a wildcard; who may not ask at all still may not."""
        here = Networks(("any",), groups=[(1, ("192.0.2.0/24",))])
        names = TlsNames({"a.test": here, "*.test": 2})
        assert names.group(b"a.test", V4, 0) == 1
        assert names.group(b"a.test", bytes(4), 0) == 2
        assert names.group(b"a.test", V4, -1) == -1
