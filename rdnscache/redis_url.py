"""URLs of Redis: one server, one found through sentinels, or a Redis Cluster; with login and TLS.

    redis://[user:password@]host[:6379][/db]
    unix://[user:password@]/path/to/socket[?db=0]
    redis+sentinel://[user:password@]host[:26379][,host…]/name[/db]
    redis+cluster://[user:password@]host[:6379][,host…]

`rediss` instead of `redis` means TLS; `valkey` and `valkeys` are synonyms. Pure: needs no redis-py.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from rdnscache.files import locate, read_text

SERVER, SENTINEL, CLUSTER = "server", "sentinel", "cluster"
#: A host and a port.
Host = tuple[str, int]

_SCHEME = re.compile(r"(?P<tls>redis|rediss|valkey|valkeys)(?P<kind>\+sentinel|\+cluster)?|(?:(?:redis|valkey)\+)?unix")
_PORTS = {SERVER: 6379, SENTINEL: 26379, CLUSTER: 6379}
_EXAMPLES = {
    SERVER: "redis://192.0.2.10:6379/0",
    SENTINEL: "redis+sentinel://192.0.2.11,192.0.2.12,192.0.2.13/mymaster",
    CLUSTER: "redis+cluster://192.0.2.21,192.0.2.22",
}


@dataclass(frozen=True, slots=True)
class Login:
    """The login for a server. A password file is read for every connection, so it may change."""

    username: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""

    @property
    def given(self) -> bool:
        return bool(self.username or self.password or self.password_file)

    def credentials(self) -> tuple[str, ...]:
        """The user, if there is one, and the password. Raises ValueError when the file cannot be used."""
        password = read_password(self.password_file) if self.password_file else self.password
        return (self.username, password) if self.username else (password,)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL. `hosts` are servers, sentinels or some nodes of the cluster; empty for a Unix socket."""

    kind: str
    hosts: tuple[Host, ...] = ()
    socket: str = ""
    #: The name by which the sentinels know the primary.
    service: str = ""
    db: int = 0
    tls: bool = False
    login: Login = Login()
    sentinel_login: Login = Login()
    #: redis-py's arguments for TLS.
    tls_arguments: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def movable(self) -> bool:
        """Whether another attempt may reach another server, through sentinels or a host name."""
        return self.kind != SERVER or (not self.socket and not _is_address(self.hosts[0][0]))

    def arguments(self) -> dict[str, Any]:
        """Arguments for redis-py's connections except login and database."""
        if self.socket:
            return {"path": self.socket}
        name, port = self.hosts[0]
        return {"host": name, "port": port} | self.tls_arguments


def read_password(file: str) -> str:
    """The first line of a file. Raises ValueError."""
    try:
        found = read_text(file).partition("\n")[0].strip()
    except ValueError as error:
        raise ValueError(f"password file {file} {error}") from None
    if not found:
        raise ValueError(f"password file {file} is empty")
    return found


def _yes(raw: str) -> bool:
    known = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
    if raw.lower() not in known:
        raise ValueError(f"{raw!r} is neither yes nor no")
    return known[raw.lower()]


def _file(raw: str) -> str:
    file = locate(raw)
    if not os.access(file, os.R_OK) or not os.path.isfile(file):
        raise ValueError(f"{raw} is not a file that can be read")
    return file


def _folder(raw: str) -> str:
    if not os.path.isdir(raw):
        raise ValueError(f"{raw} is not a folder")
    return raw


def _checking(raw: str) -> str:
    if raw not in ("none", "optional", "required"):
        raise ValueError(f"{raw!r} is not one of none, optional, required")
    return raw


#: TLS parameters, named as in redis-py, and how each is parsed.
_TLS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": _file, "ssl_ca_path": _folder, "ssl_certfile": _file, "ssl_keyfile": _file, "ssl_password": str,
    "ssl_cert_reqs": _checking, "ssl_check_hostname": _yes, "ssl_ciphers": str,
}  # fmt: skip
_LOGIN = ("username", "password", "password_file")
_SENTINEL_LOGIN = tuple(f"sentinel_{name}" for name in _LOGIN)
_PARAMETERS = ("db", *_LOGIN, *_SENTINEL_LOGIN, *_TLS)


def canonical(url: str) -> str:
    """The URL with redis-py's scheme. Raises ValueError when its scheme is not known."""
    scheme, colon, rest = url.partition("://")
    match = _SCHEME.fullmatch(scheme)
    if not colon or match is None:
        raise ValueError(f"{mask(url)!r} is neither 'embedded', 'none' nor a URL such as {_EXAMPLES[SERVER]}")
    if match["tls"] is None:
        return f"unix://{rest}"
    tls = "rediss" if match["tls"] in ("rediss", "valkeys") else "redis"
    return f"{tls}{match['kind'] or ''}://{rest}"


def parse(url: str) -> RedisUrl:
    """Parse a URL. Raises ValueError with one sentence that shows no password."""
    scheme, _, rest = canonical(url).partition("://")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    kind = scheme.partition("+")[2] or SERVER
    known = _parameters(query)
    tls = scheme.startswith("rediss")
    if at:
        username, _, password = user.partition(":")
        given = {"username": unquote(username), "password": unquote(password)}
        known = {name: value for name, value in given.items() if value} | known
    if not tls and (about := [name for name in known if name in _TLS]):
        raise ValueError(f"{about[0]} is about TLS: the URL must begin with rediss{scheme.removeprefix('redis')}://")
    if kind != SENTINEL and (about := [name for name in known if name in _SENTINEL_LOGIN]):
        raise ValueError(f"{about[0]} is for sentinels, and this URL names none")
    logins = _login(known, ""), _login(known, "sentinel_")
    if scheme == "unix":
        if hosts or not path:
            raise ValueError(f"{mask(url)!r} does not say where the socket is: unix:///path/to/socket")
        return RedisUrl(SERVER, socket=unquote(f"/{path}"), db=_db(known.get("db", "")), login=logins[0])
    found = tuple(_host(text, kind, url) for text in hosts.split(","))
    service, db = _service_and_db(kind, unquote(path), known.get("db", ""), len(found))
    return RedisUrl(kind, found, "", service, db, tls, *logins, _tls_arguments(known, tls))


def _parameters(query: str) -> dict[str, str]:
    known = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in known.items():
        if name not in _PARAMETERS:
            raise ValueError(f"unknown parameter {name!r} in a URL of Redis; there are {', '.join(_PARAMETERS)}")
        if not value:
            raise ValueError(f"the parameter {name} in a URL of Redis is empty")
    return known


def _login(known: Mapping[str, str], prefix: str) -> Login:
    login = Login(*(known.get(prefix + name, "") for name in _LOGIN))
    if login.password and login.password_file:
        raise ValueError(f"a password and {prefix}password_file are both given")
    if login.password_file:
        read_password(login.password_file)
    return login


def _host(text: str, kind: str, url: str) -> Host:
    try:
        parts = urlsplit(f"//{text}")
        host, port = unquote(parts.hostname or ""), parts.port
    except ValueError:
        host, port = "", None
    if not host or port == 0 or "@" in text:
        raise ValueError(f"{mask(url)!r} does not say where Redis is: {_EXAMPLES[kind]}")
    return host, port or _PORTS[kind]


def _service_and_db(kind: str, path: str, parameter: str, hosts: int) -> tuple[str, int]:
    service = ""
    if kind == SENTINEL:
        service, _, path = path.partition("/")
        if not service:
            raise ValueError(f"the name the sentinels know the primary by is missing: {_EXAMPLES[SENTINEL]}")
    elif kind == SERVER and hosts > 1:
        raise ValueError(f"several hosts are for redis+sentinel:// and redis+cluster://: {_EXAMPLES[SENTINEL]}")
    db = _db(parameter or path.strip("/"))
    if kind == CLUSTER and db:
        raise ValueError("a Redis Cluster has no database but 0")
    return service, db


def _db(text: str) -> int:
    if not re.fullmatch(r"[0-9]{0,5}", text):
        raise ValueError(f"{text!r} is not the number of a database")
    return int(text or 0)


def _tls_arguments(known: Mapping[str, str], tls: bool) -> dict[str, Any]:
    """The TLS parameters as arguments for redis-py's connections. Raises ValueError."""
    told = {}
    for name, read in _TLS.items():
        if name in known:
            try:
                told[name] = read(known[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    if "ssl_keyfile" in told and "ssl_certfile" not in told:
        raise ValueError("ssl_keyfile is given without ssl_certfile")
    return told if tls else {}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def mask(url: str) -> str:
    """A URL without its passwords."""
    url = re.sub(r"([?&](?:sentinel_|ssl_)?password=)[^&]*", r"\1***", url)
    return re.sub(r"(://[^/@:]*):.*@", r"\1:***@", url)
