"""Upstreams as people write them: an address, or a URL with a transport, a name to authenticate, and parameters.

    192.0.2.53  192.0.2.53:5353  udp://192.0.2.53:53  tcp://192.0.2.53
    tls://192.0.2.53#dns.example  tls://dns.example?address=192.0.2.53,192.0.2.54
    https://dns.example/dns-query?address=192.0.2.53  https://192.0.2.53/dns-query#dns.example
    quic://192.0.2.53#dns.example  h3://dns.example?address=192.0.2.53

Parameters may also stand behind an address without a scheme, and behind the name instead of before it.
"""

from __future__ import annotations

import base64
import difflib
import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote

from rdnscache.address import Address
from rdnscache.files import locate
from rdnscache.rates import UNLIMITED, rate_text, read_rate

UDP, TCP, TLS, HTTPS, QUIC, H3 = "udp", "tcp", "tls", "https", "quic", "h3"
#: The port of each, unless one is given (RFC 1035, 7858, 8484, 9250).
PORTS = {UDP: 53, TCP: 53, TLS: 853, HTTPS: 443, QUIC: 853, H3: 443}
_PLAIN = (UDP, TCP)
_WITH_PATH = (HTTPS, H3)
_USUAL_PATH = "/dns-query"
#: What other software calls them.
_OTHER_WORDS = {
    "dns": UDP, "do53": UDP, "dot": TLS, "dns+tls": TLS, "tcp-tls": TLS, "ssl": TLS, "doh": HTTPS, "http": HTTPS,
    "h2": HTTPS, "doq": QUIC, "dns+quic": QUIC, "doh3": H3, "http3": H3, "https3": H3,
}  # fmt: skip
#: Longest URL in characters, and how many addresses and pins one may have.
LONGEST = 2048
MOST_ADDRESSES, MOST_PINS = 16, 8
#: Longest label in characters: the limit of an entry's origin.
LONGEST_LABEL = 100
_HEAVIEST = 1000

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20})://(.*)")
_PARTS = re.compile(r"(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:#(?P<name>.*))?")
_HOST = re.compile(r"(?P<host>[^:@\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_NAME = re.compile(r"(?=.{1,253}$)(?=.*[a-z_-][^.]*$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*")
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+;=:@/-]|%[0-9A-Fa-f]{2}){0,255}")
#: Ends in a parameter that may have several values.
_LISTING = re.compile(r"[?&](?:address|pin)=[^&#]*$")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server at one address, by one transport."""

    #: UDP (with TCP when a reply is cut), TCP, TLS (RFC 7858), HTTPS (RFC 8484 over HTTP/2), QUIC (RFC 9250), or H3.
    scheme: str
    address: Address
    #: What the certificate has to be for, a host name or an IP address; empty where only pins count, and without TLS.
    name: str = ""
    #: The path of the URL, for HTTPS and H3.
    path: str = ""
    #: SHA-256 of the public keys that the server may have, in base64 (RFC 7858 section 4.2); empty: any.
    pins: tuple[str, ...] = ()
    #: PEM files: the CA that must have signed the server's certificate, instead of those the system trusts; our own
    #: certificate, and its key.
    ca: str = ""
    certificate: str = ""
    key: str = ""
    #: Its share of the queries, relative to the other servers.
    weight: int = 1
    #: Queries a second that the cluster as a whole may send it; 0: as many as any other, UNLIMITED: any number.
    budget: float = 0.0

    @classmethod
    def parse(cls, text: str) -> tuple[Endpoint, ...]:
        """One for each address that a URL names. Raises ValueError with one sentence."""
        text = text.strip()
        if len(text) > LONGEST:
            raise ValueError(f"{text[:60]!r}… is not an IP address and no URL: it has more than {LONGEST} characters")
        match = _SCHEME.fullmatch(text)
        if match is None:
            return _without_scheme(text)
        scheme = match[1].lower()
        if scheme not in PORTS:
            raise ValueError(f"{_cut(text)} begins with a scheme that is not known: {_instead(scheme, [*PORTS])}")
        return _from_url(text, scheme, match[2])

    def __str__(self) -> str:
        parameters = "&".join(f"{name}={value}" for name, value in self._parameters())
        if not parameters:
            return self.url
        head, mark, name = self.url.partition("#")
        return f"{head}?{parameters}{mark}{name}"

    @property
    def label(self) -> str:
        """Its name in logs, metrics and the origins of entries."""
        found = self.url
        return found if len(found) <= LONGEST_LABEL else found[: LONGEST_LABEL - 3] + "..."

    @property
    def encrypted(self) -> bool:
        return self.scheme not in _PLAIN

    @property
    def host(self) -> str:
        """Its address in the form certificates have: without a zone."""
        return self.address.host.partition("%")[0]

    @property
    def authority(self) -> str:
        """The value of the Host or :authority field of an HTTP request."""
        name = self.name or self.host
        shown = f"[{name}]" if ":" in name else name
        return shown if self.address.port == PORTS[self.scheme] else f"{shown}:{self.address.port}"

    @property
    def url(self) -> str:
        """Everything that distinguishes it from other servers; without parameters."""
        if self.scheme == UDP:
            return str(self.address)
        usual = "" if self.pins or not self.encrypted else self.host
        name = f"#{self.name}" if self.name != usual else ""
        return f"{self.scheme}://{str(self.address).replace('%', '%25')}{self.path}{name}"

    def _parameters(self) -> Iterator[tuple[str, str]]:
        for pin in self.pins:
            yield "pin", pin
        for name, file in (("ca", self.ca), ("cert", self.certificate), ("key", self.key)):
            if file:
                yield name, quote(file)
        if self.weight != 1:
            yield "weight", str(self.weight)
        if self.budget:
            yield "budget", rate_text(self.budget)


def split(text: str) -> list[str]:
    """Split a text at spaces and commas into upstreams, but not at a comma between a URL's addresses or pins.

    `tls://dns.example?address=192.0.2.53,192.0.2.54 192.0.2.55` has two.
    """
    found: list[str] = []
    for word in text.split():
        last = ""
        for part in filter(None, word.split(",")):
            if "://" not in part and _LISTING.search(last):
                last = found[-1] = f"{last},{part}"
            else:
                last = part
                found.append(part)
    return found


def _without_scheme(text: str) -> tuple[Endpoint, ...]:
    head, _, query = text.partition("?")
    try:
        address = Address.parse(head, PORTS[UDP])
    except ValueError as error:
        raise ValueError(f"{error}{_meant(head)}") from None
    return (_with_parameters(Endpoint(UDP, address), _parameters(query), text),)


def _meant(text: str) -> str:
    """What somebody may have meant by what is no address."""
    before, _, name = text.partition("#")
    if "." in name and _name(name):
        return f"; to ask it over TLS, write tls://{before}#{name}"
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in PORTS:
        return f"; a URL has two slashes: {scheme}://{rest.lstrip('/')}"
    match = _HOST.fullmatch(text)
    return "; no name is looked up to reach an upstream" if match and _name(match["host"]) else ""


def _from_url(text: str, scheme: str, rest: str) -> tuple[Endpoint, ...]:
    parts = _PARTS.fullmatch(rest.replace("{?dns}", "", 1))  # of a URI template (RFC 8484 section 4.1.1)
    if parts is None:
        raise ValueError(f"{_cut(text)} is not a URL of a server")
    told, _, late = (parts["name"] or "").partition("?")
    parameters = _parameters(f"{parts['query'] or ''}&{late}")
    host, addresses = _reached(text, scheme, parts, parameters)
    name = _authenticated(text, scheme, host, told)
    path = _path(text, scheme, parts["path"] or "")
    plain = _with_parameters(Endpoint(scheme, addresses[0], name, path), parameters, text)
    if name or scheme in _PLAIN or plain.pins:
        return tuple(replace(plain, address=address) for address in addresses)
    each = (replace(plain, address=address) for address in addresses)
    return tuple(replace(endpoint, name=endpoint.host) for endpoint in each)


def _reached(
    text: str, scheme: str, parts: re.Match[str], parameters: dict[str, list[str]]
) -> tuple[str, list[Address]]:
    """The host's name, empty where there is an address instead, and the addresses."""
    authority = parts["authority"]
    given = [one for value in parameters.pop("address", ()) for one in value.split(",") if one]
    try:
        address = Address.parse(_zone(authority), PORTS[scheme])
    except ValueError:
        match = _HOST.fullmatch(authority)
        host = _name(match["host"]) if match else ""
        if not authority:
            raise ValueError(f"{_cut(text)} names no server") from None
        server = authority.rpartition("@")[2]
        if server != authority and _HOST.fullmatch(server):
            raise ValueError(f"{scheme}://…@{server[:60]} has a user: who asks is told by cert= alone") from None
        if match is None or not host:
            raise
    else:
        if given:
            raise ValueError(f"{_cut(text)} has two places for its address: {address.host}, and address=")
        return "", [address]
    port = int(match["port"] or PORTS[scheme])
    if not given:
        example = f"{scheme}://{authority}{parts['path'] or ''}?address=192.0.2.53"
        raise ValueError(f"{_cut(text)} needs an address, since no name is looked up to reach an upstream: {example}")
    if len(given) > MOST_ADDRESSES:
        raise ValueError(f"{_cut(text)} has more than {MOST_ADDRESSES} addresses")
    found = [Address.parse(_zone(one), -1) for one in given]
    if any(address.port != -1 for address in found):
        raise ValueError(f"{_cut(text)} has a port behind address=: it belongs behind the host, {scheme}://{host}:PORT")
    if port > 65535:
        raise ValueError(f"{_cut(text)} has a port above 65535")
    return host, list(dict.fromkeys(Address(address.host, port) for address in found))


def _zone(text: str) -> str:
    """The zone of an address, as it is escaped in URLs: `%25eth0` (RFC 6874); people write `%eth0` there as well."""
    return re.sub(r"%25(?=[^\]])", "%", text, count=1)


def _authenticated(text: str, scheme: str, host: str, told: str) -> str:
    if not host and not told:
        return ""
    if scheme in _PLAIN:
        raise ValueError(f"{_cut(text)} names who is to be authenticated, which {scheme}:// cannot do: leave it out")
    name = _name(told) if told else host
    if not name:
        raise ValueError(f"{_cut(text)} has {told[:60]!r} behind '#', which is no host name (of other scripts: xn--…)")
    if host and name != host:
        raise ValueError(f"{_cut(text)} has two names: {host}, and {name}")
    return name


def _name(text: str) -> str:
    """A host name or IP address in the form certificates have; empty when it is neither."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        name = text.lower().removesuffix(".")
        return name if name.isascii() and _NAME.fullmatch(name) else ""


def _path(text: str, scheme: str, path: str) -> str:
    if scheme not in _WITH_PATH:
        if path not in ("", "/"):
            raise ValueError(f"{_cut(text)} has a path, which {scheme}:// does not know")
        return ""
    if path and not _PATH.fullmatch(path):
        raise ValueError(f"{_cut(text)} has a path that is too long or has to be escaped")
    return path or _USUAL_PATH


def _parameters(query: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in ("address", *_READERS):
            raise ValueError(f"{name[:60]!r} is no parameter of an upstream: {_instead(name, ['address', *_READERS])}")
        if not value:
            raise ValueError(f"the parameter {name} of an upstream is empty")
        if name in found and name not in ("address", "pin"):
            raise ValueError(f"the parameter {name} of an upstream is given twice")
        found.setdefault(name, []).append(value)
    return found


def _with_parameters(plain: Endpoint, parameters: dict[str, list[str]], text: str) -> Endpoint:
    if "address" in parameters:
        raise ValueError(f"{_cut(text)} has two places for its address: {plain.address.host}, and address=")
    read: dict[str, Any] = {}
    for name, values in parameters.items():
        field, reader = _READERS[name]
        if not plain.encrypted and name in ("pin", "ca", "cert", "key"):
            raise ValueError(f"{_cut(text)}: {name} is about TLS, which {plain.scheme}:// has not")
        read[field] = reader(",".join(values))
    if "key" in read and "certificate" not in read:
        raise ValueError(f"{_cut(text)}: key is given without cert")
    return replace(plain, **read)


def _pins(raw: str) -> tuple[str, ...]:
    found = []
    for pin in filter(None, unquote(raw).split(",")):
        whole = pin[:43] + "="
        # the last of them stands for 4 bits: another would be taken for one that is not what was written
        if not re.fullmatch("[A-Za-z0-9+/]{43}=?", pin) or base64.b64encode(base64.b64decode(whole)).decode() != whole:
            raise ValueError(f"pin: {pin[:60]!r} is not the SHA-256 of a public key in base64, which has 44 characters")
        found.append(whole)
    if not 0 < len(found) <= MOST_PINS:
        raise ValueError(f"pin: there are 1 to {MOST_PINS} of them, not {len(found)}")
    return tuple(dict.fromkeys(found))


def _file(raw: str) -> str:
    file = unquote(raw)
    if not file.isprintable():
        raise ValueError(f"{file[:60]!r} is not the path of a file")
    return locate(file)


def _weight(raw: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", raw) or not 1 <= int(raw) <= _HEAVIEST:
        raise ValueError(f"weight: {raw[:60]!r} is not a whole number between 1 and {_HEAVIEST}")
    return int(raw)


def _budget(raw: str) -> float:
    try:
        return read_rate(unquote(raw)) or UNLIMITED
    except ValueError as error:
        raise ValueError(f"budget: {error}") from None


#: Parameters, the field that each fills, and how it is read.
_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "pin": ("pins", _pins), "ca": ("ca", _file), "cert": ("certificate", _file), "key": ("key", _file),
    "weight": ("weight", _weight), "budget": ("budget", _budget),
}  # fmt: skip


def _instead(word: str, known: list[str]) -> str:
    close = [_OTHER_WORDS[word]] if word in _OTHER_WORDS else difflib.get_close_matches(word[:60], known, 1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"


def _cut(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
