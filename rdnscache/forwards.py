"""The servers a node forwards to: from its options, from a file of them, or from the system's resolv.conf."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from rdnscache.address import Address
from rdnscache.errors import ConfigError
from rdnscache.files import read_text

DNS_PORT = 53
#: Servers a node forwards to, at most.
MOST = 256
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
#: A comment begins a line or follows a space, so that the port of `192.0.2.53#5353` is none.
_COMMENT = re.compile(r"(?:^|\s)[#;].*")


def find(
    given: tuple[Address, ...], file: str, system: Path, own: tuple[Address, ...], warn: Callable[[str], None]
) -> tuple[Address, ...]:
    """The servers given and those in the file; those of the system (its resolv.conf) where both name none.

    `own` is where the node itself listens. `warn` is told of servers of the system that are passed over.
    Raises ConfigError for others that cannot be asked.
    """
    for address in given:
        if reason := objection(address, own):
            raise ConfigError(f"upstream {address} {reason}")
    found = given + (tuple(_from_file(file, own)) if file else ())
    found = tuple(dict.fromkeys(found)) or _from_system(system, own, warn)
    if len(found) > MOST:
        raise ConfigError(f"there are {len(found)} upstreams; {MOST} is the limit")
    return found


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
            return "is this node itself: queries would go round in circles"
    return ""


def _from_file(file: str, own: tuple[Address, ...]) -> Iterator[Address]:
    try:
        lines = read_text(file).split("\n")
    except ValueError as error:
        raise ConfigError(f"upstream file {file} {error}") from None
    empty = True
    for number, line in enumerate(lines, 1):
        text = _COMMENT.sub("", line).strip()
        if not text:
            continue
        try:
            address = Address.parse(text, DNS_PORT)
            if reason := objection(address, own):
                raise ValueError(f"{address} {reason}")
        except ValueError as error:
            raise ConfigError(f"{file}, line {number}: {error}") from None
        empty = False
        yield address
    if empty:
        raise ConfigError(f"upstream file {file} names no server")


def _from_system(file: Path, own: tuple[Address, ...], warn: Callable[[str], None]) -> tuple[Address, ...]:
    """What resolv.conf(5) names, all of it, but for what cannot be asked, such as ourselves."""
    try:
        lines = read_text(file, errors="replace").split("\n")
    except ValueError as error:
        raise ConfigError(f"no upstream is given, and {file} {error}: use --upstream") from None
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
    if not found:
        why = f" ({passed[0]})" if passed else ""
        raise ConfigError(f"no upstream is given, and {file} names none that can be asked{why}: use --upstream")
    for text in passed:
        warn(f"passed over: {text}")
    return tuple(dict.fromkeys(found))
