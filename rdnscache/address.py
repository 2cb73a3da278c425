"""Socket addresses as people write them."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Any

_BRACKETED = re.compile(r"\[(?P<host>[^\]]+)\](?:[:#@](?P<port>[0-9]{1,5}))?")
#: As dnsmasq and unbound write it.
_MARKED = re.compile(r"(?P<host>[^\[\]#@]+)[#@](?P<port>[0-9]{1,5})")
_PLAIN = re.compile(r"(?P<host>[^:]+)(?::(?P<port>[0-9]{1,5}))?")
#: Longest text that is parsed, in characters: an address has up to 45, a zone 15, and there may be a port.
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address (with its zone, for link-local IPv6) and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int) -> Address:
        """Read `192.0.2.1`, `192.0.2.1:53`, `2001:db8::1` or `[2001:db8::1]:53`; the port may also follow `#` or `@`.

        The zone of a link-local address is an interface's name or number (RFC 4007 section 11). An IPv4-mapped address
        is the IPv4 address in it. ValueError says what is wrong.
        """
        text = text.strip()
        match = _BRACKETED.fullmatch(text) or _MARKED.fullmatch(text) or _PLAIN.fullmatch(text)
        host, port = (match["host"], match["port"]) if match else (text, None)
        try:
            if len(text) > _LONGEST:
                raise ValueError
            ip = ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"{text[:_LONGEST]!r} is not an IP address with an optional port") from None
        number = default_port if port is None else int(port)
        if number > 65535:
            raise ValueError(f"{text!r} has a port above 65535")
        if isinstance(ip, ipaddress.IPv6Address):
            if ip.scope_id:
                zone = _interface(ip.scope_id)
                return cls(str(ipaddress.IPv6Address(f"{host.partition('%')[0]}%{zone}")), number)
            ip = ip.ipv4_mapped or ip
        return cls(str(ip), number)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def sockaddr(self) -> Any:
        """The address in the form the socket module expects."""
        if ":" not in self.host:
            return (self.host, self.port)
        host, _, zone = self.host.partition("%")
        return (host, self.port, 0, socket.if_nametoindex(zone) if zone else 0)

    def source(self) -> str:
        """The local address from which it would be reached; nothing is sent. Raises OSError when there is no route."""
        with socket.socket(self.family, socket.SOCK_DGRAM) as sock:
            sock.connect(self.sockaddr)
            return str(sock.getsockname()[0])

    @property
    def wildcard(self) -> bool:
        return ipaddress.ip_address(self.host).is_unspecified

    @property
    def public(self) -> bool:
        """Whether the address is globally routed: not private, loopback or link-local."""
        return ipaddress.ip_address(self.host).is_global

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback


def _interface(zone: str) -> str:
    """The name of the interface that a zone identifies. Raises ValueError when there is none."""
    names = {name: name for _, name in socket.if_nameindex()}
    numbers = {str(number): name for number, name in socket.if_nameindex()}
    found = names.get(zone) or numbers.get(zone)
    if found is None:
        raise ValueError(f"there is no network interface {zone!r} here")
    return found
