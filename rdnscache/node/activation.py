"""Sockets that systemd has opened for us, sd_listen_fds(3).

They are stored like those of an earlier image, so that workers and later images get them. systemd keeps them open
whatever we do: each one has to be served, or clients that use it would get no answer.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping

from rdnscache.address import Address
from rdnscache.config import Config
from rdnscache.errors import ConfigError
from rdnscache.node.handover import Handover
from rdnscache.node.sockets import left_as

_FIRST = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def adopt(config: Config, handed: Handover, environ: MutableMapping[str, str] = os.environ) -> None:
    """Take the sockets passed to this process. Raises ConfigError for any that it cannot serve."""
    pid, count, names = (environ.get(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return
    for name in _VARIABLES:
        environ.pop(name, None)
    called = names.split(":")
    for number in range(int(count[:9])):
        label = _label(_FIRST + number, called[number] if number < len(called) else "", config)
        handed.sockets.setdefault(label, []).append(_FIRST + number)
        handed.given[label] = handed.given.get(label, 0) + 1
    problem = misfit(handed.given, config)
    if problem:
        raise ConfigError(problem)


def misfit(given: Mapping[str, int], config: Config) -> str:
    """Why a node with this configuration could not serve all sockets from systemd; empty when it could."""
    most = {
        left_as("listen", transport, 0, address): config.workers
        for address in config.listen
        if address.port
        for transport in ("udp", "tcp")
    }
    if config.admin is not None and config.admin.port:
        most[left_as("admin", "tcp", 0, config.admin)] = 1
    for label, count in given.items():
        _, transport, address = label.split(" ", 2)
        where = f"{address} ({transport.upper()})"
        if label not in most:
            return f"systemd passes a socket for {where}, which is not an address of --listen or --admin"
        if count > most[label]:
            return f"systemd passes {count} sockets for {where}, but only {most[label]} can be served: one per worker"
    return ""


def _label(fd: int, name: str, config: Config) -> str:
    """What a passed socket is for, by its address. Raises ConfigError for one that is not for DNS or HTTP."""
    told = f"socket {name!r:.100} of systemd" if name else f"socket {fd} of systemd"
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"{told} cannot be used: {error.strerror}") from None
    sock.set_inheritable(False)
    try:
        transport = {socket.SOCK_DGRAM: "udp", socket.SOCK_STREAM: "tcp"}.get(socket.SocketKind(sock.type))
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or transport is None:
            raise ConfigError(f"{told} is not for UDP or TCP")
        if transport == "tcp" and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ConfigError(f"{told} does not listen: its unit must not say Accept=yes")
        host, port = sock.getsockname()[:2]
        both = sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        if both and host == "::":
            raise ConfigError(f"{told} is for IPv4 and IPv6 at once: its unit must say BindIPv6Only=ipv6-only")
    finally:
        sock.detach()
    address = Address.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", port)
    kind = "admin" if transport == "tcp" and address == config.admin else "listen"
    return left_as(kind, transport, 0, address)
