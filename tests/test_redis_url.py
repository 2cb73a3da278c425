"""Where Redis is: what a URL may say, and that no password is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdnscache.option_parsers import redis_url
from rdnscache.redis_url import CLUSTER, SENTINEL, SERVER, Login, mask, parse

pytestmark = [pytest.mark.once, pytest.mark.pure]


@pytest.mark.parametrize(
    ("url", "kind", "hosts", "rest"),
    [
        ("redis://192.0.2.1", SERVER, (("192.0.2.1", 6379),), ("", "", 0, False)),
        ("valkeys://redis.example:6390/3", SERVER, (("redis.example", 6390),), ("", "", 3, True)),
        ("redis://[2001:db8::1]:7000?db=2", SERVER, (("2001:db8::1", 7000),), ("", "", 2, False)),
        ("valkey+unix:///run/redis.sock?db=1", SERVER, (), ("/run/redis.sock", "", 1, False)),
        ("redis+sentinel://a,b:1/main", SENTINEL, (("a", 26379), ("b", 1)), ("", "main", 0, False)),
        ("valkeys+sentinel://[::1]:1/main/7", SENTINEL, (("::1", 1),), ("", "main", 7, True)),
        ("rediss+cluster://a,b:7001", CLUSTER, (("a", 6379), ("b", 7001)), ("", "", 0, True)),
        ("valkey+cluster://a/0", CLUSTER, (("a", 6379),), ("", "", 0, False)),
    ],
)
def test_spellings(url: str, kind: str, hosts: tuple[tuple[str, int], ...], rest: tuple[str | int, ...]) -> None:
    """Each kind of place, with and without what may be left out; the canonical URL says the same."""
    place = parse(url)
    assert (place.kind, place.hosts) == (kind, hosts)
    assert (place.socket, place.service, place.db, place.tls) == rest
    assert parse(redis_url(url)) == place
    assert redis_url(url).startswith(("redis", "unix"))


def test_logins(tmp_path: Path) -> None:
    """In the URL, percent-encoded, as parameters, or the password in a file that is read for each connection."""
    secret = tmp_path / "secret"
    secret.write_text("first\n")
    assert parse("redis://me:a%40b%2Fc@h").login == Login("me", "a@b/c")
    assert parse("redis://:word@h").login.credentials() == ("word",)
    assert parse("unix:///s?username=me&password=word").login.credentials() == ("me", "word")
    login = parse(f"redis+sentinel://me@h/m?password_file={secret}&sentinel_password=watch").login
    assert login.credentials() == ("me", "first")
    secret.write_text("second\n")
    assert login.credentials() == ("me", "second")
    assert parse("redis+sentinel://h/m?sentinel_username=s&sentinel_password=w").sentinel_login == Login("s", "w")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://h", "neither"), ("redis+http://h", "neither"), ("redis:h", "neither"),
        ("redis://", "where Redis is"), ("redis://h:0", "where Redis is"), ("redis://h:x", "where Redis is"),
        ("redis://:p/q@h", "where Redis is"), ("unix://", "socket"), ("unix://h/s", "socket"),
        ("redis://a,b", "several hosts"), ("redis+sentinel://a,b", "name"), ("redis+sentinel://a,,b/m", "where"),
        ("redis+cluster://a/1", "database"), ("redis://h/x", "database"), ("redis+sentinel://a/m/x", "database"),
        ("redis://h?ssl_ca_certs=/x", "rediss"), ("redis+cluster://h?ssl_cert_reqs=none", r"rediss\+cluster"),
        ("rediss://h?ssl_ca_certs=/nowhere", "ssl_ca_certs: /nowhere"), ("rediss://h?ssl_cert_reqs=some", "some"),
        ("rediss://h?ssl_check_hostname=perhaps", "perhaps"), ("rediss://h?ssl_keyfile=/dev/null", "not a file"),
        ("redis://h?protocol=2", "unknown parameter 'protocol'"), ("redis://h?db=", "empty"),
        ("redis://h?sentinel_password=hunter2", "sentinels"), ("redis://h?password_file=/nowhere", "/nowhere"),
        ("redis://:hunter2@h?password_file=/etc/hostname", "both"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(url: str, word: str) -> None:
    """With one sentence, in which there is no password."""
    with pytest.raises(ValueError, match=word) as caught:
        parse(url)
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_password_file(tmp_path: Path) -> None:
    """It is refused at the start, and a key without its certificate is."""
    (tmp_path / "none").write_text("\n")
    with pytest.raises(ValueError, match="is empty"):
        parse(f"redis://h?password_file={tmp_path}/none")
    with pytest.raises(ValueError, match="without ssl_certfile"):
        parse(f"rediss://h?ssl_keyfile={tmp_path}/none")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+sentinel://me:secret@a,b/m", "redis+sentinel://me:***@a,b/m"),
        ("redis://:se@cr/et@h", "redis://:***@h"),
        ("unix:///s?password=secret&db=1", "unix:///s?password=***&db=1"),
        ("rediss://h?ssl_password=secret", "rediss://h?ssl_password=***"),
        ("redis+sentinel://h/m?sentinel_password=secret", "redis+sentinel://h/m?sentinel_password=***"),
        ("redis://h?password_file=/run/secret", "redis://h?password_file=/run/secret"),
    ],
)
def test_mask(url: str, shown: str) -> None:
    """Every password is hidden, and nothing else."""
    assert mask(url) == shown


def test_no_password_in_a_repr() -> None:
    """Nor where an object is logged by mistake."""
    place = parse("rediss+sentinel://me:hunter2@a/m?sentinel_password=hunter3&ssl_password=hunter4")
    assert "hunter" not in repr(place)
