"""The sockets a node listens on: bound by the supervisor, inherited by its workers and by its next image."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from rdnscache.address import Address
from rdnscache.config import Config
from rdnscache.errors import ConfigError
from rdnscache.node.handover import Handover

#: Requested size of each UDP socket's receive queue, in octets; the kernel may grant less.
_UDP_QUEUE = 4 << 20
_BACKLOG = 512
_PORT_TRIES = 20


@dataclass(frozen=True, slots=True)
class Slot:
    """One worker's sockets: for each listen address a UDP socket and a TCP listener."""

    udp: tuple[socket.socket, ...]
    tcp: tuple[socket.socket, ...]

    def close(self) -> None:
        for sock in self.udp + self.tcp:
            sock.close()


def bind_slots(
    addresses: tuple[Address, ...], workers: int, handed: Handover, kind: str = "listen"
) -> tuple[list[Slot], list[Address]]:
    """Sockets for every worker, and the addresses they are bound to (port 0 becomes a free one).

    Those in the handover are used first. The kernel distributes clients over the workers (SO_REUSEPORT); if systemd
    passes fewer sockets than there are workers, some share one.
    Raises OSError when an address is not available.
    """
    udp: list[list[socket.socket]] = [[] for _ in range(workers)]
    tcp: list[list[socket.socket]] = [[] for _ in range(workers)]
    bound = []
    for number, address in enumerate(addresses):
        labels = [left_as(kind, transport, number, address) for transport in ("udp", "tcp")]
        left = [handed.take(label) for label in labels]
        first = next((old[0] for old in left if old), None)
        where = Address(address.host, first.getsockname()[1]) if first is not None else _free_address(address)
        bound.append(where)
        kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
        for sockets, old, sort, label in zip((udp, tcp), left, kinds, labels, strict=True):
            given = old[: handed.given.get(label, 0)]
            for worker in range(workers):
                sockets[worker].append(old.pop(0) if old else _one_more(where, sort, given, worker))
            for sock in old:
                sock.close()
    return [Slot(tuple(udp[worker]), tuple(tcp[worker])) for worker in range(workers)], bound


def _one_more(where: Address, kind: socket.SocketKind, given: list[socket.socket], worker: int) -> socket.socket:
    """A new socket for a worker and an address, when the handover has none for it."""
    # The kernel lets only the owner of a passed socket, which is root, bind another one to its address.
    return given[worker % len(given)].dup() if given else _bind(where, kind, shared=True)


def leave_slots(slots: Sequence[Slot], addresses: Sequence[Address], handed: Handover, kind: str = "listen") -> None:
    """The reverse: put the sockets of all slots into the handover."""
    for number, address in enumerate(addresses):
        handed.leave(left_as(kind, "udp", number, address), [slot.udp[number] for slot in slots])
        handed.leave(left_as(kind, "tcp", number, address), [slot.tcp[number] for slot in slots])


def left_as(kind: str, transport: str, number: int, address: Address) -> str:
    """The name of sockets in the handover: their address; with port 0, which may occur several times, also their
    number."""
    return f"{kind} {transport} {address}" + ("" if address.port else f" {number}")


def check_ports(config: Config) -> None:
    """Raises ConfigError when an address that a node would listen on is not available."""
    for address in config.listen + ((config.admin,) if config.admin else ()):
        try:
            check_free(address)
        except OSError as error:
            raise ConfigError(f"cannot listen on {address}: {error.strerror}") from None


def check_free(address: Address) -> None:
    """Raises OSError when an address is not available."""
    if address.port:
        _free_address(address)


def _free_address(address: Address) -> Address:
    """The address with a port that is free for UDP and TCP alike.

    Bound without SO_REUSEPORT for a moment: with it, a second node on the same port would go unnoticed.
    """
    for attempt in range(_PORT_TRIES):
        with _bind(address, socket.SOCK_STREAM, shared=False) as listener:
            where = Address(address.host, listener.getsockname()[1])
            try:
                _bind(where, socket.SOCK_DGRAM, shared=False).close()
            except OSError:
                if address.port or attempt == _PORT_TRIES - 1:
                    raise
                continue
        return where
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


def bind_inner(workers: int, handed: Handover) -> tuple[list[Slot], list[Address]]:
    """A loopback address for every worker, at which the other workers of its node ask it."""
    slots, bound = [], []
    for worker in range(workers):
        slot, where = bind_slots(_INNER, 1, handed, f"inner {worker}")
        slots += slot
        bound += where
    return slots, bound


def leave_inner(slots: Sequence[Slot], handed: Handover) -> None:
    for worker, slot in enumerate(slots):
        leave_slots([slot], _INNER, handed, f"inner {worker}")


def leave_admin(sock: socket.socket, address: Address, handed: Handover) -> None:
    handed.leave(left_as("admin", "tcp", 0, address), [sock])


def bind_admin(address: Address, handed: Handover) -> socket.socket:
    """The listener that all workers share."""
    left = handed.take(left_as("admin", "tcp", 0, address))
    if left:
        return left[0]
    sock = _bind(address, socket.SOCK_STREAM, shared=False)
    sock.listen(_BACKLOG)
    return sock
