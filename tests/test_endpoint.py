"""Upstreams as people write them: what each URL means, how it is shown, and what is refused."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from support.certificates import Authority

from rdnscache import config as config_module
from rdnscache import forwards
from rdnscache.address import Address
from rdnscache.config import Config, load
from rdnscache.endpoint import H3, HTTPS, LONGEST_LABEL, QUIC, TCP, TLS, UDP, Endpoint, split
from rdnscache.errors import ConfigError

#: Plain Python only: nothing here is compiled.
pytestmark = [pytest.mark.once, pytest.mark.pure]

ONE, TWO, SIX = "192.0.2.53", "192.0.2.54", "2001:db8::53"
PIN = "A" * 42 + "E="
NAME = "dns.example"


def at(port: int, host: str = ONE) -> Address:
    return Address(host, port)


@pytest.mark.parametrize(
    ("text", "meant", "shown"),
    [
        (ONE, [Endpoint(UDP, at(53))], ["192.0.2.53:53"]),
        ("udp://192.0.2.53:53", [Endpoint(UDP, at(53))], ["192.0.2.53:53"]),
        ("UDP://[2001:db8::53]", [Endpoint(UDP, at(53, SIX))], ["[2001:db8::53]:53"]),
        ("tcp://192.0.2.53", [Endpoint(TCP, at(53))], ["tcp://192.0.2.53:53"]),
        ("tls://192.0.2.53#dns.example", [Endpoint(TLS, at(853), NAME)], ["tls://192.0.2.53:853#dns.example"]),
        ("tls://192.0.2.53@8853#DNS.example.", [Endpoint(TLS, at(8853), NAME)], ["tls://192.0.2.53:8853#dns.example"]),
        ("tls://dns.example:8853?address=192.0.2.53,192.0.2.54",
         [Endpoint(TLS, at(8853), NAME), Endpoint(TLS, at(8853, TWO), NAME)],
         ["tls://192.0.2.53:8853#dns.example", "tls://192.0.2.54:8853#dns.example"]),
        ("tls://dns.example?address=192.0.2.53&address=192.0.2.53", [Endpoint(TLS, at(853), NAME)],
         ["tls://192.0.2.53:853#dns.example"]),
        ("tls://192.0.2.53", [Endpoint(TLS, at(853), ONE)], ["tls://192.0.2.53:853"]),
        (f"tls://192.0.2.53?pin={PIN}", [Endpoint(TLS, at(853), pins=(PIN,))], [f"tls://192.0.2.53:853?pin={PIN}"]),
        (f"tls://192.0.2.53#192.0.2.53?pin={PIN[:-1]}", [Endpoint(TLS, at(853), ONE, pins=(PIN,))],
         [f"tls://192.0.2.53:853?pin={PIN}#192.0.2.53"]),
        ("https://dns.example/dns-query?address=192.0.2.53", [Endpoint(HTTPS, at(443), NAME, "/dns-query")],
         ["https://192.0.2.53:443/dns-query#dns.example"]),
        ("https://dns.example/dns-query{?dns}?address=2001:db8::53",
         [Endpoint(HTTPS, at(443, SIX), NAME, "/dns-query")], ["https://[2001:db8::53]:443/dns-query#dns.example"]),
        ("https://192.0.2.53/own#dns.example", [Endpoint(HTTPS, at(443), NAME, "/own")],
         ["https://192.0.2.53:443/own#dns.example"]),
        ("quic://[fe80::1%25lo]#dns.example", [Endpoint(QUIC, at(853, "fe80::1%lo"), NAME)],
         ["quic://[fe80::1%25lo]:853#dns.example"]),
        ("quic://[fe80::1%lo]", [Endpoint(QUIC, at(853, "fe80::1%lo"), "fe80::1")], ["quic://[fe80::1%25lo]:853"]),
        ("h3://dns.example?address=192.0.2.53&ca=/a%20b%2Cc&cert=c&key=k&weight=20&budget=500/s",
         [Endpoint(H3, at(443), NAME, "/dns-query", (), "/a b,c", "c", "k", 20, 500.0)],
         ["h3://192.0.2.53:443/dns-query?ca=/a%20b%2Cc&cert=c&key=k&weight=20&budget=500/s#dns.example"]),
        ("192.0.2.53?budget=0.5", [Endpoint(UDP, at(53), budget=0.5)], ["192.0.2.53:53?budget=0.5/s"]),
    ],
)  # fmt: skip
def test_a_url_says_how_a_server_is_asked(text: str, meant: list[Endpoint], shown: list[str]) -> None:
    """Scheme, address, name, path and parameters are read, and shown in one form that means the same."""
    found = Endpoint.parse(text)
    assert list(found) == meant
    assert list(map(str, found)) == shown
    for endpoint in found:
        assert Endpoint.parse(str(endpoint)) == (endpoint,)
        assert "?" not in endpoint.label
        assert len(endpoint.label) <= LONGEST_LABEL


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("tls://dns.example", r"needs an address.*tls://dns.example\?address=192.0.2.53"),
        ("dot://192.0.2.53", "did you mean tls"), ("htps://192.0.2.53", "did you mean https"),
        ("gopher://192.0.2.53", "there are udp, tcp"), ("tls://192.0.2.53?adress=1", "did you mean address"),
        ("192.0.2.53#dns.example", "write tls://192.0.2.53#dns.example"),
        ("dns.example:53", "no name is looked up"), ("tls://192.0.2.53#853", "no host name"),
        ("udp://192.0.2.53#dns.example", "cannot do"), ("tcp://192.0.2.53?ca=/x", "about TLS"),
        ("tls://192.0.2.53?address=192.0.2.54", "two places"), ("192.0.2.53?address=192.0.2.54", "two places"),
        ("tls://dns.example#other.example?address=192.0.2.53", "two names"), ("tls://192.0.2.53/path", "has a path"),
        ("tls://dns.example?address=192.0.2.53:5", "port behind address"), ("tls://192.0.2.53?key=k", "without cert"),
        ("tls://a.b:99999?address=192.0.2.53", "65535"), ("tls://192.0.2.53?weight=0", "between 1 and 1000"),
        ("tls://192.0.2.53?weight=2&weight=3", "given twice"), ("tls://192.0.2.53?ca=", "is empty"),
        ("tls://192.0.2.53?budget=many", "queries a second"), ("tls://192.0.2.53?pin=abc", "base64"),
        ("tls://192.0.2.53#b\u00fccher.example", "xn--"), ("tls://me@dns.example?address=192.0.2.53", "has a user"),
        ("tls:192.0.2.53", "two slashes: tls://192.0.2.53"), (f"tls://192.0.2.53?pin={PIN[:-2]}/", "base64"),
        ("192.0.2.53?budget=0.9/h", "not between 1/h and"), ("192.0.2.53?budget=1/d", "such as 500/s"),
        ("https://192.0.2.53/" + "a" * 300, "too long"), ("tls://" + "a" * 5000, "2048 characters"),
        ("tls://", "names no server"), ("https:///dns-query", "names no server"),
        ("tls://a.b?address=" + ",".join(f"192.0.2.{n}" for n in range(20)), "16"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_in_one_sentence(text: str, part: str) -> None:
    """It says what is wrong, and what would be right."""
    with pytest.raises(ValueError, match=part) as refusal:
        Endpoint.parse(text)
    assert len(str(refusal.value)) < 300


PIECES = st.sampled_from(
    ["tls", "https", "://", "192.0.2.53", "[", "]", "::1", "%25", "lo", ":", "853", "#", "?", "&", "=", "address",
     "pin", "weight", "budget", "ca", "/", ",", "dns.example", "%", "@", "\x00", "\n", "\udce9", PIN, "9" * 20]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_no_text_is_more_than_refused(text: str) -> None:
    """Whatever is given, it is read or refused, and what is read is shown in a form that means the same."""
    for each in (text, f"tls://{text}", f"https://dns.example{text}?address=192.0.2.53"):
        try:
            found = Endpoint.parse(each)
        except ValueError:
            continue
        for endpoint in found:
            assert Endpoint.parse(str(endpoint)) == (endpoint,)
            assert endpoint.label.isascii()
            assert " " not in endpoint.label


def test_a_list_of_urls_is_split_where_one_ends() -> None:
    """Commas between a URL's addresses and pins separate nothing, all others do."""
    items = ["tls://a.b?address=1.1.1.1,1.1.1.2", "8.8.8.8", f"tls://a.b?pin={PIN},{PIN}",
             "https://c.d?address=::1&weight=2", "::2"]  # fmt: skip
    assert split(f"{items[0]} {','.join(items[1:])}") == items


def loaded(**given: object) -> tuple[Config, list[str]]:
    """The configuration, and what was said about it."""
    said: list[str] = []
    return load(None, given, {}, said.append), said


def test_urls_are_taken_from_options_and_files(tmp_path: Path) -> None:
    """With comments, a byte order mark, CRLF, several a line; a server named twice counts once, if it is the same."""
    file = tmp_path / "list"
    lines = ["# ours", "tls://192.0.2.53#dns.example # one", "192.0.2.54, 192.0.2.55", "udp://192.0.2.54"]
    file.write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    found, _ = loaded(upstream=("tls://dns.example?address=192.0.2.53",), upstream_file=str(file))
    assert [each.label for each in found.upstream] == [
        "tls://192.0.2.53:853#dns.example", "192.0.2.54:53", "192.0.2.55:53",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"list, line 2: tls://192.0.2.53:853#dns.example is named twice, with diff"):
        loaded(upstream=("tls://192.0.2.53#dns.example?weight=3",), upstream_file=str(file))
    file.write_text("192.0.2.1\ntls://dns.example\n")
    with pytest.raises(ConfigError, match=r"list, line 2: .* needs an address"):
        loaded(upstream_file=str(file))


def test_what_asking_takes_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read, QUIC without its library are said before anything starts."""
    with pytest.raises(ConfigError, match=r"ca=.*none.pem is not a file"):
        loaded(upstream=(f"tls://192.0.2.53?ca={tmp_path}/none.pem",))
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    for name in ("ca", "cert"):
        with pytest.raises(ConfigError, match=rf"cannot be used: {name}=.*empty.pem: there is no certificate in it"):
            loaded(upstream=(f"tls://192.0.2.53?{name}={empty}",))
    monkeypatch.setattr(forwards, "find_spec", lambda name: None)
    for scheme in (QUIC, H3):
        with pytest.raises(ConfigError, match=r"pip install 'rdnscache\[quic\]'"):
            loaded(upstream=(f"{scheme}://192.0.2.53",))


def test_a_resolv_conf_as_a_list(tmp_path: Path) -> None:
    """Its servers count, its other lines say nothing of servers, but for `use-vc`: then TCP is used."""
    file = tmp_path / "resolv.conf"
    file.write_text("# by DHCP\nsearch a.b\nnameserver 192.0.2.53\noptions ndots:2 use-vc\nnameserver ::ffff:1.2.3.4\n")
    assert [str(each) for each in loaded(upstream_file=str(file))[0].upstream] == [
        "tcp://192.0.2.53:53", "tcp://1.2.3.4:53",
    ]  # fmt: skip
    file.write_text("family inet4\nlookup file bind\nnameserver 192.0.2.53\noptions edns0 # use-vc\n")
    assert [str(each) for each in loaded(upstream_file=str(file))[0].upstream] == ["192.0.2.53:53"]
    file.write_text("nameserver 192.0.2.53\nnameserver dns.example\n")
    with pytest.raises(ConfigError, match=r"line 2: 'dns\.example' is not an IP address"):
        loaded(upstream_file=str(file))


def test_behind_systemd_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stub is passed by: its own servers are asked; never ourselves; the stub where it tells none."""
    file, behind = tmp_path / "resolv.conf", tmp_path / "behind"
    monkeypatch.setattr(config_module, "RESOLV_CONF", file)
    monkeypatch.setattr(forwards, "BEHIND_STUBS", behind)
    file.write_text("nameserver 127.0.0.53\noptions edns0 trust-ad timeout:1 attempts:5 rotate\nsearch .\n")
    assert [str(each) for each in loaded()[0].upstream] == ["127.0.0.53:53"]
    behind.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n")
    found, said = loaded()
    assert [each.address.host for each in found.upstream] == [f"192.0.2.{number}" for number in range(1, 5)]
    assert len(said) == 1
    assert "systemd-resolved (127.0.0.53)" in said[0]
    behind.write_text("# none yet\n")
    assert [str(each) for each in loaded()[0].upstream] == ["127.0.0.53:53"]
    behind.write_text("nameserver 127.0.0.1\n")
    with pytest.raises(ConfigError, match="forwards to this node itself"):
        loaded(listen=("127.0.0.1:53",))
    assert str(loaded(upstream=("127.0.0.53",))[0].upstream[0]) == "127.0.0.53:53"  # as somebody wants it


def test_files_of_tls_are_refused_in_words(tmp_path: Path) -> None:
    """A certificate without its key, with another's, with one that is locked, cut off, or not in PEM."""
    authority = Authority(tmp_path)
    made, other = authority.sign("a.example"), authority.sign("b.example")
    whole = made.certificate.read_text()
    secret = serialization.load_pem_private_key(made.key.read_bytes(), None)
    locked, cut, der = tmp_path / "locked.pem", tmp_path / "cut.pem", tmp_path / "der.crt"
    locked.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"x"),
        )
    )
    cut.write_text(whole[: len(whole) // 2])
    der.write_bytes(ssl.PEM_cert_to_DER_cert(whole))
    for files, told in (
        (f"cert={made.certificate}", "there is no key in it"),
        (f"cert={made.certificate}&key={cut}", f"there is no key in {cut}"),
        (f"cert={made.certificate}&key={other.key}", "its key is that of another certificate"),
        (f"cert={made.certificate}&key={locked}", "its key is encrypted"),
        (f"cert={cut}&key={made.key}", "it is damaged"),
        (f"cert={der}&key={made.key}", "there is no certificate in it, in PEM"),
        (f"ca={der}", "there is no certificate in it, in PEM"),
        (f"ca={cut}", "it is damaged"),
    ):
        with pytest.raises(ConfigError, match=rf"{files.split('&')[0]}: {told}"):
            loaded(upstream=(f"tls://192.0.2.53?{files}#dns.example",))


def test_a_text_that_is_none_is_refused_with_its_line(tmp_path: Path) -> None:
    """Other scripts' octets, and NUL, wherever lines end."""
    file = tmp_path / "list"
    for data, line in ((b"192.0.2.1\n# caf\xe9\n", 2), (b"192.0.2.1\r\n\r\n192.0.2.2\0\r\n", 3), (b"a\rb\r\xff", 3)):
        file.write_bytes(data)
        with pytest.raises(ConfigError, match=rf"list cannot be read: line {line} is not"):
            loaded(upstream_file=str(file))
