"""A node's compiled lists on disk: mapped by all its workers, and available when Redis or the network is away.

Files are named by a digest of their sources, so that nodes on one machine can share a directory.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import stat
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from rdnscache.errors import ConfigError
from rdnscache.policy.list_version import Version

#: Seconds after which a compiled list that nobody uses is deleted.
KEPT = 7 * 86400.0
#: Longest state file about a node's lists, and longest copy of the cluster's orders, in octets.
LONGEST_NOTE = 1 << 20


class Shelf:
    """State files belong to one node with one Redis; compiled lists can be shared. Methods raise OSError."""

    def __init__(self, directory: Path, node: str, redis_url: str) -> None:
        self.directory = directory
        mark = hashlib.blake2b(redis_url.encode(), digest_size=8).hexdigest()
        self._note = directory / f"{node}.{mark}.json"
        self._orders = directory / f"{node}.{mark}.policy"

    def copy(self, word: str) -> Path:
        """The path of the text of a transferred zone, by the list's name."""
        return self._own(word, "zone")

    def notify(self, word: str) -> None:
        """Record a notification that a zone has changed."""
        self._own(word, "told").touch()

    def notified(self, word: str) -> int:
        """A value that changes with every `notify`."""
        try:
            return os.stat(self._own(word, "told")).st_mtime_ns
        except OSError:
            return 0

    def _own(self, word: str, kind: str) -> Path:
        name = hashlib.blake2b(word.encode(), digest_size=16).hexdigest()
        return self._note.with_name(f"{self._note.stem}.{name}.{kind}")

    def path(self, digest: str) -> Path:
        return self.directory / f"{digest}.list"

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def put(self, digest: str, data: bytes) -> None:
        """Store a compiled list atomically."""
        _write(self.path(digest), data)

    def use(self, digest: str) -> None:
        """Keep a list for at least another KEPT seconds."""
        os.utime(self.path(digest))

    def map(self, digest: str) -> mmap.mmap:
        """A compiled list, mapped into memory."""
        with open(self.path(digest), "rb") as file:
            return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def note(self, versions: Mapping[str, Version]) -> None:
        """Tell the workers which lists there are."""
        text = json.dumps({word: version.as_json() for word, version in sorted(versions.items())})
        _write(self._note, text.encode())

    def noted(self) -> dict[str, Version]:
        """The current lists; empty when the state file cannot be read."""
        try:
            told = json.loads(_read(self._note))
            return {str(word): Version.read(version) for word, version in told.items()}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}

    def stamp(self) -> tuple[int, int]:
        """A value that changes with every `note`."""
        try:
            found = os.stat(self._note)
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_ino

    def keep_orders(self, raw: bytes) -> None:
        """A copy of the cluster's orders, as they are in Redis."""
        _write(self._orders, raw)

    def kept_orders(self) -> bytes:
        try:
            return _read(self._orders)
        except OSError:
            return b""

    def tidy(self, used: Iterable[str]) -> None:
        """Delete lists that have not been used for long."""
        names, before = {self.path(digest).name for digest in used}, time.time() - KEPT
        for path in self.directory.glob("*.list*"):
            with suppress(OSError):
                if path.name not in names and path.stat().st_mtime < before:
                    path.unlink()


def find_directory(wanted: str) -> Path:
    """The directory for lists: the configured one, or the usual place for such files. Raises ConfigError."""
    folders = [wanted] if wanted else _usual_folders()
    reason = ""
    for folder in folders:
        path = Path(folder)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = path.stat()
        except OSError as error:
            reason = reason or f"{folder}: {error.strerror}"
            continue
        if not os.access(path, os.W_OK | os.X_OK) or not path.is_dir():
            reason = reason or f"{folder} cannot be written"
        elif not wanted and (found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022):
            reason = reason or f"other users can write to {folder}"
        else:
            return path
    raise ConfigError(f"there is no directory for lists: {reason}; choose one with --list-dir")


def _usual_folders() -> list[str]:
    """Candidates: the directory systemd passes to a service, the system's one for services, and the user's."""
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [*([state] if state else []), "/var/lib/rdnscache", f"{cache}/rdnscache", f"/tmp/rdnscache-{os.geteuid()}"]


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        data = file.read(LONGEST_NOTE + 1)
    if len(data) > LONGEST_NOTE:
        raise OSError(f"{path} is too large")
    return data


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with open(beside, "wb") as file:
            file.write(data)
        os.replace(beside, path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise
