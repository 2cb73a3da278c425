"""Socket addresses as people write them, and the sockets a node listens on."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rdnscache.handover import Estate

_BRACKETED = re.compile(r"\[(?P<host>[^\]]+)\](?:[:#@](?P<port>[0-9]{1,5}))?")
#: As dnsmasq and unbound write it.
_MARKED = re.compile(r"(?P<host>[^\[\]#@]+)[#@](?P<port>[0-9]{1,5})")
_PLAIN = re.compile(r"(?P<host>[^:]+)(?::(?P<port>[0-9]{1,5}))?")
#: Characters of an address that are looked at: it has up to 45, a zone 15, and a port.
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
        """As the socket module takes it."""
        if ":" not in self.host:
            return (self.host, self.port)
        host, _, zone = self.host.partition("%")
        return (host, self.port, 0, socket.if_nametoindex(zone) if zone else 0)

    def source(self) -> str:
        """The address this machine would ask it from; nothing is sent. Raises OSError when there is no way there."""
        with socket.socket(self.family, socket.SOCK_DGRAM) as sock:
            sock.connect(self.sockaddr)
            return str(sock.getsockname()[0])

    @property
    def wildcard(self) -> bool:
        return ipaddress.ip_address(self.host).is_unspecified

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback


def _interface(zone: str) -> str:
    """The name of the interface that a zone means. Raises ValueError when there is none."""
    names = {name: name for _, name in socket.if_nameindex()}
    numbers = {str(number): name for number, name in socket.if_nameindex()}
    found = names.get(zone) or numbers.get(zone)
    if found is None:
        raise ValueError(f"there is no network interface {zone!r} here")
    return found


@dataclass(frozen=True, slots=True)
class Slot:
    """One worker's sockets: for each listen address a UDP socket and a TCP listener."""

    udp: tuple[socket.socket, ...]
    tcp: tuple[socket.socket, ...]

    def close(self) -> None:
        for sock in self.udp + self.tcp:
            sock.close()


#: Asked of the kernel for each UDP socket's queue, in octets; it may give less.
_UDP_QUEUE = 4 << 20
_BACKLOG = 512
_PORT_TRIES = 20


def bind_slots(
    addresses: tuple[Address, ...], workers: int, estate: Estate, kind: str = "listen"
) -> tuple[list[Slot], list[Address]]:
    """Sockets for every worker, and the addresses they are bound to (port 0 becomes a free one).

    Those in the estate are used first. The kernel spreads clients over the workers (SO_REUSEPORT).
    Raises OSError when an address cannot be had.
    """
    udp: list[list[socket.socket]] = [[] for _ in range(workers)]
    tcp: list[list[socket.socket]] = [[] for _ in range(workers)]
    bound = []
    for number, address in enumerate(addresses):
        left = (
            estate.take(place_name(kind, "udp", number, address)),
            estate.take(place_name(kind, "tcp", number, address)),
        )
        place = Address(address.host, left[0][0].getsockname()[1]) if left[0] else _free_place(address)
        bound.append(place)
        for sockets, old, sort in ((udp, left[0], socket.SOCK_DGRAM), (tcp, left[1], socket.SOCK_STREAM)):
            for worker in range(workers):
                sockets[worker].append(old.pop(0) if old else _bind(place, sort, shared=True))
            for sock in old:
                sock.close()
    return [Slot(tuple(udp[worker]), tuple(tcp[worker])) for worker in range(workers)], bound


def leave_slots(slots: Sequence[Slot], addresses: Sequence[Address], estate: Estate, kind: str = "listen") -> None:
    """The other way round: put the sockets of all slots into the estate."""
    for number, address in enumerate(addresses):
        estate.leave(place_name(kind, "udp", number, address), [slot.udp[number] for slot in slots])
        estate.leave(place_name(kind, "tcp", number, address), [slot.tcp[number] for slot in slots])


def place_name(kind: str, transport: str, number: int, address: Address) -> str:
    """What sockets are left under: their address; with port 0, which there may be several of, their number as well."""
    return f"{kind} {transport} {address}" + ("" if address.port else f" {number}")


def check_free(address: Address) -> None:
    """Raises OSError when an address cannot be had."""
    if address.port:
        _free_place(address)


def _free_place(address: Address) -> Address:
    """The address with a port that is free for UDP and TCP alike.

    Bound without SO_REUSEPORT for a moment: with it, a second node on the same port would go unnoticed.
    """
    for attempt in range(_PORT_TRIES):
        with _bind(address, socket.SOCK_STREAM, shared=False) as listener:
            place = Address(address.host, listener.getsockname()[1])
            try:
                _bind(place, socket.SOCK_DGRAM, shared=False).close()
            except OSError:
                if address.port or attempt == _PORT_TRIES - 1:
                    raise
                continue
        return place
    raise AssertionError("not reached")


def _bind(address: Address, kind: socket.SocketKind, shared: bool) -> socket.socket:
    sock = socket.socket(address.family, kind)
    try:
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UDP_QUEUE)
        sock.bind(address.sockaddr)
        if shared and kind == socket.SOCK_STREAM:
            sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


_INNER = (Address("127.0.0.1", 0),)


def bind_inner(workers: int, estate: Estate) -> tuple[list[Slot], list[Address]]:
    """For every worker a loopback address of its own, where the others of its node ask it."""
    slots, places = [], []
    for worker in range(workers):
        bound, (place,) = bind_slots(_INNER, 1, estate, f"inner {worker}")
        slots += bound
        places.append(place)
    return slots, places


def leave_inner(slots: Sequence[Slot], estate: Estate) -> None:
    for worker, slot in enumerate(slots):
        leave_slots([slot], _INNER, estate, f"inner {worker}")


def leave_admin(sock: socket.socket, address: Address, estate: Estate) -> None:
    estate.leave(place_name("admin", "tcp", 0, address), [sock])


def bind_admin(address: Address, estate: Estate) -> socket.socket:
    """The listener that all workers share."""
    left = estate.take(place_name("admin", "tcp", 0, address))
    if left:
        return left[0]
    sock = _bind(address, socket.SOCK_STREAM, shared=False)
    sock.listen(_BACKLOG)
    return sock
