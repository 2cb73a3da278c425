"""The servers a node forwards to: from its options, from a file of them, or from the system's resolv.conf."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from rdnscache import tls_files
from rdnscache.address import Address
from rdnscache.endpoint import H3, QUIC, TCP, UDP, Endpoint, split
from rdnscache.errors import ConfigError
from rdnscache.files import read_text

DNS_PORT = 53
#: Most servers that a node forwards to, or asks for one zone; and most of them in all.
MOST, MOST_OF_ALL = 256, 1000
#: The addresses systemd-resolved listens on, and the file with the servers that it forwards to.
STUBS = (Address("127.0.0.53", DNS_PORT), Address("127.0.0.54", DNS_PORT))
BEHIND_STUBS = Path("/run/systemd/resolve/resolv.conf")
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
#: A comment begins a line or follows a space, so `#5353` in `192.0.2.53#5353` is not one.
_COMMENT = re.compile(r"(?:^|\s)[#;].*")
#: Keywords of resolv.conf(5) whose lines are not about servers.
_NO_SERVERS = ("search", "domain", "sortlist", "options", "lookup", "family")
_ITSELF = "is this node itself: queries would go round in circles"


def find(
    given: tuple[Endpoint, ...], file: str, system: Path, own: tuple[Address, ...], warn: Callable[[str], None]
) -> tuple[Endpoint, ...]:
    """The servers given and those in the file; the system's (from its resolv.conf) when both name none.

    `own` are the addresses the node itself listens on. `warn` gets a sentence about each server of the system that
    cannot be asked; for any other such server ConfigError is raised.
    """
    found: dict[str, Endpoint] = {}
    for where, endpoint in chain((("upstream", each) for each in given), _from_file(file) if file else ()):
        _add(found, where, endpoint, own)
    if len(found) > MOST:
        raise ConfigError(f"there are {len(found)} upstreams; {MOST} is the limit")
    return tuple(found.values()) or _from_system(system, own, warn)[:MOST]


def check_others(
    others: Iterable[tuple[str, Sequence[Endpoint]]], usual: Iterable[Endpoint], own: tuple[Address, ...]
) -> None:
    """Raises ConfigError for servers of zones and views that cannot be asked, or that are also among the `usual` ones
    with other parameters. `others` has them by their owner, such as `zone corp.example.`"""
    found = {endpoint.url: endpoint for endpoint in usual}
    for whose, servers in others:
        if len(servers) > MOST:
            raise ConfigError(f"{whose} has {len(servers)} upstreams; {MOST} is the limit")
        for endpoint in servers:
            _add(found, f"{whose}: upstream", endpoint, own)
    if len(found) > MOST_OF_ALL:
        raise ConfigError(f"there are {len(found)} different upstreams; {MOST_OF_ALL} is the limit")


def _add(found: dict[str, Endpoint], where: str, endpoint: Endpoint, own: tuple[Address, ...]) -> None:
    """Add a server unless it is there already; ConfigError if it cannot be asked."""
    known = found.get(endpoint.url)
    if known is None:
        if reason := objection(endpoint.address, own) or _lacking(endpoint):
            raise ConfigError(f"{where} {endpoint.label} {reason}")
        found[endpoint.url] = endpoint
    elif known != endpoint:
        raise ConfigError(f"{where} {endpoint.label} is named twice, with different parameters")


def objection(address: Address, own: tuple[Address, ...]) -> str:
    """Why an address cannot be one of a server to forward to; empty when it can."""
    ip = ipaddress.ip_address(address.host)
    if address.port == 0 or address.wildcard or ip in _THIS_NETWORK:
        return "is not an address that can be asked"
    if ip.is_multicast:
        return "is a multicast address, not one of a server"
    if isinstance(ip, ipaddress.IPv6Address) and ip.is_link_local and not ip.scope_id:
        return f"is link-local: say on which interface, such as {ip}%eth0"
    try:
        source = address.source()
    except OSError as error:  # no way there now, which may change
        if error.errno == errno.EACCES or address.host == "255.255.255.255":
            return "is a broadcast address, not one of a server"
        source = ""
    for each in own:
        here = each.wildcard and each.family == address.family and (address.loopback or source == address.host)
        if each.port and each.port == address.port and (here or each.host == address.host):
            return _ITSELF
    return ""


def _lacking(endpoint: Endpoint) -> str:
    """What is missing to ask this server; empty when nothing is."""
    if endpoint.scheme in (QUIC, H3) and find_spec("aioquic") is None:
        return "needs aioquic, which is not installed: pip install 'rdnscache[quic]'"
    for name, file in (("ca", endpoint.ca), ("cert", endpoint.certificate), ("key", endpoint.key)):
        if file and not (os.path.isfile(file) and os.access(file, os.R_OK)):
            return f"cannot be used: {name}={file} is not a file that can be read"
    return _useless(endpoint) if endpoint.ca or endpoint.certificate else ""


def _useless(endpoint: Endpoint) -> str:
    """What is wrong with its files; empty when they can be used. Checked here, or workers would fail one after
    another."""
    import ssl  # importing it takes time, and few nodes need it

    context, what = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), f"ca={endpoint.ca}"
    try:
        if endpoint.ca:
            tls_files.trust(context, endpoint.ca)
        what = f"cert={endpoint.certificate}"
        if endpoint.certificate:
            tls_files.present(context, endpoint.certificate, endpoint.key)
    except ValueError as error:
        return f"cannot be used: {what}: {error}"
    return ""


def _from_file(file: str) -> Iterator[tuple[str, Endpoint]]:
    """The servers that a file names, each with its file and line."""
    try:
        lines = read_text(file).split("\n")
    except ValueError as error:
        raise ConfigError(f"upstream file {file} {error}") from None
    scheme = _scheme(lines)
    empty = True
    for number, line in enumerate(lines, 1):
        text = _COMMENT.sub("", line).strip()
        words = text.split()
        if not words or words[0] in _NO_SERVERS:
            continue
        try:
            if words == ["nameserver"]:
                raise ValueError("no address follows nameserver")
            if words[0] == "nameserver":
                found: Sequence[Endpoint] = [Endpoint(scheme, Address.parse(" ".join(words[1:]), DNS_PORT))]
            else:
                found = [endpoint for item in split(text) for endpoint in Endpoint.parse(item)]
        except ValueError as error:
            raise ConfigError(f"{file}, line {number}: {error}") from None
        for endpoint in found:
            empty = False
            yield f"{file}, line {number}:", endpoint
    if empty:
        raise ConfigError(f"upstream file {file} names no server")


def _scheme(lines: Sequence[str]) -> str:
    """The transport that a resolv.conf(5) asks for: its option `use-vc` means TCP; no other one concerns us."""
    told = [word for line in lines if (words := _COMMENT.sub("", line).split())[:1] == ["options"] for word in words]
    return TCP if "use-vc" in told else UDP


def _from_system(file: Path, own: tuple[Address, ...], warn: Callable[[str], None]) -> tuple[Endpoint, ...]:
    """All servers in resolv.conf(5), except those that cannot be asked, such as this node itself."""
    try:
        lines = read_text(file, errors="replace").split("\n")
    except ValueError as error:
        raise ConfigError(f"no upstream is given, and {file} {error}: use --upstream") from None
    found, passed = _nameservers(file, lines, own)
    if not found:
        why = f" ({passed[0]})" if passed else ""
        raise ConfigError(f"no upstream is given, and {file} names none that can be asked{why}: use --upstream")
    for text in passed:
        warn(f"ignored: {text}")
    if all(address in STUBS for address in found):
        found = _behind_stubs(file, found, own, warn)
    scheme = _scheme(lines)
    return tuple(Endpoint(scheme, address) for address in found)


def _nameservers(file: Path, lines: Sequence[str], own: tuple[Address, ...]) -> tuple[list[Address], list[str]]:
    """The servers that can be asked, each once, and a sentence about each of the others."""
    found: list[Address] = []
    local: list[Address] = []
    passed: list[str] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            address = Address.parse(words[1], DNS_PORT)
            reason = objection(address, own)
        except ValueError as error:
            passed.append(f"{file}, line {number}: {error}")
            continue
        if not reason:
            found.append(address)
            continue
        passed.append(f"{file}, line {number}: {address} {reason}")
        if address.wildcard:
            local.append(Address("127.0.0.1" if address.family == socket.AF_INET else "::1", address.port))
    if not found:  # to the C library, the wildcard address is this machine
        found = [address for address in local if not objection(address, own)]
    return list(dict.fromkeys(found)), passed


def _behind_stubs(
    file: Path, stubs: list[Address], own: tuple[Address, ...], warn: Callable[[str], None]
) -> list[Address]:
    """The servers that systemd-resolved forwards to; the stubs when its file names none."""
    try:
        lines = read_text(BEHIND_STUBS, errors="replace").split("\n")
    except ValueError:  # another program's stub, or a resolv.conf from another machine
        return stubs
    found, passed = _nameservers(BEHIND_STUBS, lines, own)
    if found:
        warn(f"{file} names systemd-resolved ({stubs[0].host}): the servers in {BEHIND_STUBS} are asked instead")
        return found
    if any(_ITSELF in text for text in passed):
        raise ConfigError(f"no upstream is given, and systemd-resolved, which {file} names, forwards to this node "
                          f"itself ({BEHIND_STUBS}): use --upstream")  # fmt: skip
    return stubs
