"""Files that people have: lists of servers, resolv.conf, TOML and secrets, as editors and other programs write them."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority

from rdnscache import config
from rdnscache.address import Address
from rdnscache.config import Config, load
from rdnscache.errors import ConfigError
from rdnscache.redis_url import read_password

#: Plain Python only: nothing here is compiled.
pytestmark = [pytest.mark.once, pytest.mark.pure]

BOM = "\ufeff"


def loaded(environ: dict[str, str] | None = None, file: str | None = None, **given: Any) -> tuple[Config, list[str]]:
    """The configuration, and what was said about it."""
    notes: list[str] = []
    return load(file, given, environ or {}, notes.append), notes


def upstreams(config: Config) -> list[str]:
    return list(map(str, config.upstream))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("192.0.2.53", "192.0.2.53:53"), ("192.0.2.53:5353", "192.0.2.53:5353"), ("192.0.2.53#5353", "192.0.2.53:5353"),
        ("192.0.2.53@5353", "192.0.2.53:5353"), ("2001:db8::53", "[2001:db8::53]:53"),
        ("2001:db8::53#5353", "[2001:db8::53]:5353"), ("2001:db8::53@5353", "[2001:db8::53]:5353"),
        ("[2001:DB8::53]:5353", "[2001:db8::53]:5353"), ("[2001:db8::53]#5353", "[2001:db8::53]:5353"),
        ("fe80::1%lo", "[fe80::1%lo]:53"), ("[fe80::1%lo]:5353", "[fe80::1%lo]:5353"),
        ("[FE80::1%1]", "[fe80::1%lo]:53"), ("fe80::1%1#5353", "[fe80::1%lo]:5353"),
        ("::ffff:192.0.2.53", "192.0.2.53:53"), ("[::ffff:192.0.2.53]:54", "192.0.2.53:54"),
    ],
)  # fmt: skip
def test_an_address_is_read_alike_everywhere(tmp_path: Path, text: str, read: str) -> None:
    """On the command line, in the environment, in TOML and in a file; in our own form, dnsmasq's and unbound's."""
    (tmp_path / "list").write_text(f"{text}\n")
    (tmp_path / "node.toml").write_text(f'upstream = ["{text}"]\n')
    assert upstreams(loaded(upstream=(text,))[0]) == [read]
    assert upstreams(loaded({"RDNSCACHE_UPSTREAM": text})[0]) == [read]
    assert upstreams(loaded(file=str(tmp_path / "node.toml"))[0]) == [read]
    assert upstreams(loaded(upstream_file=str(tmp_path / "list"))[0]) == [read]
    assert Address.parse(read, 0) == Address.parse(text, 53)  # what is shown can be given back
    assert Address.parse(text, 53).sockaddr[1] == Address.parse(text, 53).port


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("192.0.2.53#dns.example", "not an IP address"), ("192.0.2.53#", "not an IP address"),
        ("192.0.2.53#53#54", "not an IP address"), ("192.0.2.53#99999", "65535"), ("192.0.2.53:53@54", "not an IP"),
        ("192.0.2.53@eth0", "not an IP address"), ("[2001:db8::1", "not an IP address"), ("1.2.3", "not an IP address"),
        ("fe80::1%no-such-link", "no network interface"), ("[fe80::1%99999]:53", "no network interface"),
        ("fe80::1", "link-local"), ("192.0.2.1:" + "5" * 10_000, "not an IP address"),
        ("224.0.0.251", "multicast"), ("ff02::fb%lo", "multicast"), ("255.255.255.255", "broadcast"),
        ("127.255.255.255", "broadcast"), ("0.0.0.0", "can be asked"), ("::", "can be asked"),
        ("0.1.2.3", "can be asked"), ("192.0.2.1:0", "can be asked"), ("192.0.2.1#0", "can be asked"),
    ],
)  # fmt: skip
def test_what_is_no_server_is_refused_at_the_start(tmp_path: Path, text: str, part: str) -> None:
    """With one sentence, and with its line where it stands in a file."""
    (tmp_path / "list").write_text(f"# one\n192.0.2.1\n{text}\n")
    with pytest.raises(ConfigError, match=part) as refusal:
        loaded(upstream=(text,))
    assert len(str(refusal.value)) < 300
    with pytest.raises(ConfigError, match=rf"list, line 3: .*{part}"):
        loaded(upstream_file=str(tmp_path / "list"))


def test_a_node_is_not_its_own_server() -> None:
    """Neither by the address it listens on, nor by another of this machine when it listens on all of them."""
    for listen, text in (("127.0.0.1:53", "127.0.0.1"), ("0.0.0.0:53", "127.0.0.9"), ("[::]:53", "::1"),
                         ("127.0.0.1:53", "::ffff:127.0.0.1")):  # fmt: skip
        with pytest.raises(ConfigError, match="circles"):
            loaded(listen=(listen,), upstream=(text,))
    assert upstreams(loaded(listen=("[::]:53",), upstream=("127.0.0.1",))[0]) == ["127.0.0.1:53"]  # IPv6 only
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 53))
            own = sock.getsockname()[0]
        except OSError:
            return  # this machine has no address but loopback
    with pytest.raises(ConfigError, match="circles"):
        loaded(listen=("0.0.0.0:53",), upstream=(own,))


@pytest.mark.parametrize("mark", ["", BOM])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_as_editors_leave_it(tmp_path: Path, mark: str, end: str) -> None:
    """Comments, blank lines, a byte order mark, any line ends, none at the end; a server named twice counts once."""
    lines = ["192.0.2.1#5353 # one", "", " # two", "; three", "192.0.2.2\t; four", "192.0.2.1@5353", "  2001:db8::1  "]
    (tmp_path / "list").write_bytes((mark + end.join(lines)).encode())
    found, _ = loaded(upstream=("192.0.2.2",), upstream_file=str(tmp_path / "list"))
    assert upstreams(found) == ["192.0.2.2:53", "192.0.2.1:5353", "[2001:db8::1]:53"]


def test_too_many_servers(tmp_path: Path) -> None:
    """A list of something else may be long."""
    (tmp_path / "list").write_text("".join(f"192.0.{number // 250}.{number % 250 + 1}\n" for number in range(300)))
    with pytest.raises(ConfigError, match="256 is the limit"):
        loaded(upstream_file=str(tmp_path / "list"))


@pytest.mark.parametrize("mark", ["", BOM])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, end: str) -> None:
    """All its servers, scoped ones too; what is ourselves, the wildcard or no address is passed over and said."""
    lines = ["# made by a program", "; an old comment", "search example.com", "options ndots:5 edns0", "nameserver",
             "nameserver 127.0.0.1", "nameserver\t192.0.2.1 # first", "nameserver 0.0.0.0", "nameserver 2001:db8::1",
             "nameserver fe80::1%lo", "nameserver fe80::1%no-such-link", "nameserver 192.0.2.2", "nameserver ::",
             "#nameserver 192.0.2.9", "nameserver 192.0.2.1", "nameserver dns.example", "nameserver 192.0.2.3",
             "nameserver 224.0.0.1", "caf\udce9"]  # fmt: skip
    file = tmp_path / "resolv.conf"
    file.write_bytes((mark + end.join(lines)).encode(errors="surrogateescape"))
    monkeypatch.setattr(config, "RESOLV_CONF", file)
    found, notes = loaded(listen=("127.0.0.1:53",))
    assert upstreams(found) == ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%lo]:53", "192.0.2.2:53", "192.0.2.3:53"]
    numbers = [int(note.partition("line ")[2].partition(":")[0]) for note in notes]
    assert numbers == [6, 8, 11, 13, 16, 18]
    assert "127.0.0.1:53" in upstreams(loaded(listen=("127.0.0.1:5300",))[0])  # somebody else's, then


def test_resolv_conf_of_the_wildcard_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the C library 0.0.0.0 is this machine: asked when there is nobody else, unless that is us."""
    file = tmp_path / "resolv.conf"
    monkeypatch.setattr(config, "RESOLV_CONF", file)
    with pytest.raises(ConfigError, match=r"cannot be read.*--upstream"):
        loaded()
    file.write_text("nameserver 0.0.0.0\n")
    assert upstreams(loaded()[0]) == ["127.0.0.1:53"]
    for text in ("nameserver 0.0.0.0\n", "nameserver 127.0.0.1\n", "options edns0\n", ""):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"names none that can be asked.*--upstream"):
            loaded(listen=("0.0.0.0:53",))


def test_toml_as_editors_leave_it(tmp_path: Path) -> None:
    """A byte order mark and CRLF are read past."""
    (tmp_path / "node.toml").write_bytes(f'{BOM}upstream = ["192.0.2.1"]\r\nworkers = 3\r\n'.encode())
    found, _ = loaded(file=str(tmp_path / "node.toml"))
    assert (upstreams(found), found.workers) == (["192.0.2.1:53"], 3)


@pytest.mark.parametrize(
    ("text", "part"),
    [
("[serve]\nworkers = 2\n", "top level"), ("[[upstream]]\naddress = '192.0.2.1'\n", "top level"),
        ("upstream = [{address = '192.0.2.1'}]\n", "top level"), ("serve.workers = 2\n", "top level"),
        ("workers = 'many'\n", "workers in .* whole number"), ("workers = 2.5\n", "whole number"),
        ("workers = [2]\n", "whole number"), ("workers = true\n", "whole number"),
        ("workers = 1e999\n", "whole number"), ("workers = 1979-05-27\n", "whole number"),
        ("upstream = 53\n", "list of addresses"), ("upstream = [53]\n", "list of addresses"),
        ("upstream = [['192.0.2.1']]\n", "list of addresses"), ("listen = true\n", "list of addresses"),
        ("redis = 6379\n", "not a text"), ("redis = ['none']\n", "not a text"),
        ("identity = 2\n", "neither yes nor no"), ("log_level = 3\n", "not one of"),
        ("l1_memory = [1]\n", "not a size"), ("admin = 9153\n", "not an address"), ("drain = nan\n", "not a number"),
        ("allow = 10\n", "list of networks"), ("up-stream = ['192.0.2.1']\n", "did you mean 'upstream'"),
        ("workers = 9" + "9" * 5000, "is not TOML"), ("x = " + "[" * 5000 + "]" * 5000, "TOML"), ("upstream", "TOML"),
        ("workers = 1\nworkers = 2\n", "TOML"),
    ],
)  # fmt: skip
def test_wrong_toml_is_refused_in_one_clear_sentence(tmp_path: Path, text: str, part: str) -> None:
    """It names the file and the key, and says what would be right."""
    (tmp_path / "node.toml").write_text(text)
    with pytest.raises(ConfigError, match=part) as refusal:
        loaded(file=str(tmp_path / "node.toml"), upstream=() if "upstream" in text else ("192.0.2.1",))
    assert "node.toml" in str(refusal.value) and "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


@pytest.mark.parametrize("name", ["folder", "fifo", "socket", "binary", "utf16", "huge", "/dev/zero", "missing"])
def test_what_is_no_text_file_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A folder, a FIFO nobody writes to, a device, an archive, UTF-16, a gigabyte: one sentence each, everywhere."""
    path = tmp_path / name
    listener = socket.socket(socket.AF_UNIX)
    if name == "folder":
        path.mkdir()
    elif name == "fifo":
        os.mkfifo(path)
    elif name == "socket":
        listener.bind(str(path))
    elif name == "binary":
        path.write_bytes(b"\x1f\x8b\x08\0\xff\xfe" * 50)
    elif name == "utf16":
        path.write_text("192.0.2.1\n", encoding="utf-16")
    elif name == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 30)
    base = {"upstream": ("192.0.2.1",)}
    part = "larger than" if name == "huge" else "cannot be read"
    for given in ({"file": str(path)}, {"upstream_file": str(path)}, {"admin_token": f"file:{path}"},
                  {"secret": (f"file:{path}",)}, {"redis": f"redis://192.0.2.1?password_file={path}"}):  # fmt: skip
        with pytest.raises(ConfigError, match=part):
            loaded(**base | given)
    with pytest.raises(ValueError, match=part):
        read_password(str(path))
    if name not in ("binary", "utf16"):
        monkeypatch.setattr(config, "RESOLV_CONF", path)
        with pytest.raises(ConfigError, match=f"{part}.*--upstream"):
            loaded()
    listener.close()


def test_secrets_as_editors_leave_them(tmp_path: Path) -> None:
    """A byte order mark and CRLF are no part of a token, a password or a secret."""
    (tmp_path / "word").write_bytes(f"{BOM}sesame\r\n".encode())
    (tmp_path / "secrets").write_bytes(
        f"{BOM}# now\r\n1:0123456789abcdef\r\n\r\n  # next\r\n2:fedcba9876543210".encode()
    )
    found, _ = loaded(
        upstream=("192.0.2.1",), admin_token=f"file:{tmp_path}/word", secret=(f"file:{tmp_path}/secrets",)
    )
    assert found.admin_token == read_password(str(tmp_path / "word")) == "sesame"
    assert found.secret == ("1:0123456789abcdef", "2:fedcba9876543210")


def test_secrets_in_the_credentials_of_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every secret can be in a file, and that in the folder systemd has made: also where a file of options names it."""
    (tmp_path / "word").write_text("sesame\n")
    paper = Authority(tmp_path).sign("client.test")
    paper.certificate.rename(tmp_path / "own.crt")
    paper.key.rename(tmp_path / "own.key")
    (tmp_path / "tsig").write_text("c2VzYW1lc2VzYW1lc2VzYW1l\n")
    (tmp_path / "secrets").write_text("1:0123456789abcdef\n")
    place = "$CREDENTIALS_DIRECTORY"
    given: dict[str, Any] = {
        "admin_token": f"file:{place}/word", "admin_read_token": f"file:{place}/word",
        "secret": (f"file:{place}/secrets",), "redis": f"redis://192.0.2.1/0?password_file={place}/word",
        "rpz": (f"axfr://192.0.2.1/rpz.test?tsig=key.test:hmac-sha256:file:{place}/tsig",),
        "upstream": (f"tls://192.0.2.1#dns.test?cert={place}/own.crt&key={place}/own.key",),
    }  # fmt: skip
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    found, _ = loaded(**given)
    assert (found.admin_token, found.admin_read_token, found.secret) == ("sesame", "sesame", ("1:0123456789abcdef",))
    assert found.upstream[0].key == str(tmp_path / "own.key")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    for name, value in given.items():
        with pytest.raises(ConfigError, match="CREDENTIALS_DIRECTORY is not set"):
            loaded(**{"upstream": ("192.0.2.1",), name: value})


@pytest.mark.parametrize("key", ["secret", "admin_token"])
@pytest.mark.parametrize("value", ["{ id = 'sesame' }", "['sesame', 5]", "[['sesame']]", '"se\\nsame"'])
def test_a_refused_secret_is_not_repeated(tmp_path: Path, key: str, value: str) -> None:
    """Whatever its type: it may be a secret with a slip of the pen."""
    (tmp_path / "node.toml").write_text(f"{key} = {value}\n")
    with pytest.raises(ConfigError) as refusal:
        loaded(file=str(tmp_path / "node.toml"), upstream=("192.0.2.1",))
    assert "same" not in str(refusal.value).replace("node.toml", "")


def test_a_misspelt_variable_is_pointed_out() -> None:
    """But not what Kubernetes sets for a service of our name."""
    ours = {"RDNSCACHE_UPSTREAM": "192.0.2.1", "RDNSCACHE_CONFIG": "", "RDNSCACHE_SERVER": "192.0.2.1"}
    theirs = {"RDNSCACHE_SERVICE_HOST": "192.0.2.1", "RDNSCACHE_SERVICE_PORT_DNS": "53", "RDNSCACHE_PORT_53_UDP": "u",
              "RDNSCACHE_PORT": "udp://192.0.2.1:53", "RDNSCACHE_ADMIN_SERVICE_PORT": "9153"}  # fmt: skip
    assert loaded(ours | theirs)[1] == []
    notes = loaded(ours | {"RDNSCACHE_UPSTREEM": "192.0.2.2", "RDNSCACHE_PORT": "53"})[1]
    assert len(notes) == 2 and "did you mean RDNSCACHE_UPSTREAM?" in notes[1] and "RDNSCACHE_PORT" in notes[0]
