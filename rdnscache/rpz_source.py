"""Sources of response policy zones, as people write them:

/etc/rdnscache/ads.rpz                                  a file with zone-file text
axfr://192.0.2.53/rpz.example                           transferred from a server, over TCP
axfr://[2001:db8::53]:5353/rpz.example?tsig=key.example:hmac-sha256:file:/etc/rdnscache/tsig
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from rdnscache.address import Address
from rdnscache.dns.names import name_text, parse_name, shown
from rdnscache.files import read_text

SCHEME = "axfr://"
#: Most response policy zones of a node.
MOST_ZONES = 256
_DNS_PORT = 53
#: Algorithms that may sign a transfer (RFC 8945 section 6).
ALGORITHMS = ("hmac-md5", "hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")
_TSIG = re.compile(r"(?P<name>[^:]{1,255}):(?P<algorithm>[A-Za-z0-9-]{1,20}):(?P<secret>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A key that two servers share (RFC 8945)."""

    #: In presentation form.
    name: str
    algorithm: str
    secret: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.name}:{self.algorithm}:***"


@dataclass(frozen=True, slots=True)
class RpzSource:
    """A file, or a zone on a server."""

    file: str = ""
    server: Address | None = None
    #: In presentation form.
    zone: str = ""
    key: TsigKey | None = None
    #: Whether to ask for changes only, when the server offers that (RFC 1995).
    incremental: bool = True

    @classmethod
    def parse(cls, text: str) -> RpzSource:
        """Raises ValueError with one sentence, which repeats nothing that may be a secret."""
        if not text.startswith(SCHEME):
            if "://" in text:
                raise ValueError(f"{shown(text.partition('?')[0])} is neither a file nor axfr://server/zone")
            return cls(file=text)
        location, _, query = text.removeprefix(SCHEME).partition("?")
        server, slash, zone = location.partition("/")
        if not slash or not zone:
            raise ValueError(f"{shown(SCHEME + location)} names no zone: axfr://server/zone")
        address = Address.parse(server, _DNS_PORT)
        if address.port == 0:
            raise ValueError(f"{shown(SCHEME + location)} has no port that can be asked")
        settings = _settings(query)
        key, incremental = settings.get("tsig"), settings.get("ixfr", "yes")
        if incremental not in ("yes", "no"):
            raise ValueError(f"ixfr={incremental[:20]!r} is neither yes nor no")
        told = name_text(parse_name(zone))
        return cls("", address, told, _key(key) if key is not None else None, incremental == "yes")

    def __str__(self) -> str:
        """The source as it was written, without the secret."""
        if self.server is None:
            return self.file
        settings = [f"tsig={self.key}"] if self.key is not None else []
        settings += [] if self.incremental else ["ixfr=no"]
        return self.location + ("?" + "&".join(settings) if settings else "")

    @property
    def location(self) -> str:
        """The file, or the server and its zone."""
        return self.file if self.server is None else f"{SCHEME}{self.server}/{self.zone}".rstrip(".")


def _settings(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in query.split("&") if query else ():
        name, _, value = item.partition("=")
        if name not in ("tsig", "ixfr") or name in found:
            known = "known: there are tsig and ixfr" if name not in found else "given once"
            raise ValueError(f"{shown(name)} is no setting of a transfer that is {known}")
        found[name] = unquote(value)
    return found


def _key(text: str) -> TsigKey:
    """`name:algorithm:secret`, the secret in base64 or `file:PATH`."""
    match = _TSIG.fullmatch(text)
    if match is None:
        raise ValueError("a TSIG key is name:algorithm:secret, or name:algorithm:file:PATH")
    algorithm = match["algorithm"].lower()
    if algorithm not in ALGORITHMS:
        raise ValueError(f"{shown(match['algorithm'])} signs no transfer: there are {', '.join(ALGORITHMS)}")
    secret = match["secret"]
    if secret.startswith("file:"):
        path = secret.removeprefix("file:")
        try:
            secret = read_text(path).partition("\n")[0]
        except ValueError as error:
            raise ValueError(f"{path} {error}") from None
    try:
        octets = base64.b64decode(secret.strip(), validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    if not octets:
        raise ValueError(f"the secret of the TSIG key {shown(match['name'])} is not base64")
    return TsigKey(name_text(parse_name(match["name"])), algorithm, octets)


def read(raw: Any) -> tuple[RpzSource, ...]:
    """A list; one text is one item, since names of files may have spaces and commas. ValueError refuses it."""
    items = raw if isinstance(raw, list | tuple) else [raw]
    found: list[RpzSource] = []
    for item in items:
        if isinstance(item, RpzSource):
            found.append(item)
            continue
        if not isinstance(item, str) or not item or any(ord(char) < 32 for char in item):
            raise ValueError("a response policy zone is a text: a file, or axfr://server/zone")
        found.append(RpzSource.parse(item))
    if len(found) > MOST_ZONES:
        raise ValueError(f"there are {len(found)} response policy zones; {MOST_ZONES} is the limit")
    return tuple(found)
