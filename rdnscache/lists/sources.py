"""The lists of a configuration, and their text: from a file, or by HTTP."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO

from rdnscache.config import Config
from rdnscache.errors import ConfigError
from rdnscache.files import open_regular, unpacked
from rdnscache.policy.compiled_list import BLOCK, FORMAT, PASS
from rdnscache.policy.list_text import MOST_OCTETS
from rdnscache.policy.rpz_text import RPZ
from rdnscache.rpz_source import SCHEME, RpzSource

#: Octets read at a time.
CHUNK = 1 << 16
WEB = ("https://", "http://")


@dataclass(frozen=True, slots=True)
class ListSource:
    """A list in the configuration: `block`, `pass` or `rpz`, and a file or a URL."""

    kind: str
    location: str

    @property
    def word(self) -> str:
        """Its name among the nodes."""
        return f"{self.kind} {self.location}"

    @property
    def web(self) -> bool:
        return self.location.startswith(WEB)

    @property
    def transferred(self) -> bool:
        return self.location.startswith(SCHEME)

    @property
    def local(self) -> bool:
        """Whether it is a file."""
        return not self.web and not self.transferred

    @property
    def name(self) -> str:
        """Its name in origins of entries, without spaces."""
        last = self.location.partition("?")[0].rstrip("/").rpartition("/")[2]
        return "_".join((last or self.location).split())


def sources_of(config: Config) -> tuple[ListSource, ...]:
    """The lists, in order of precedence."""
    locations = ((BLOCK, config.block), (PASS, config.pass_), (RPZ, [source.location for source in config.rpz]))
    return tuple(dict.fromkeys(ListSource(kind, location) for kind, given in locations for location in given))


def transfers_of(config: Config) -> dict[str, RpzSource]:
    """The transferred zones, by the names of their lists among the nodes."""
    return {ListSource(RPZ, each.location).word: each for each in config.rpz if each.server is not None}


def all_sources(config: Config) -> tuple[ListSource, ...]:
    """All lists including those of views, without duplicates."""
    configs = (config, *map(config.inside_view, config.view))
    return tuple(dict.fromkeys(source for each in configs for source in sources_of(each)))


def all_transfers(config: Config) -> dict[str, RpzSource]:
    """Those of views as well."""
    configs = (*map(config.inside_view, config.view), config)
    return {word: source for each in configs for word, source in transfers_of(each).items()}


class SourceError(Exception):
    """A list cannot be read; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Detects changes of a file. Times are in nanoseconds; `changed` is when the file got its present name or state."""

    modified: int
    changed: int
    size: int
    inode: int

    @classmethod
    def of(cls, path: str) -> Stamp | None:
        try:
            found = os.stat(path)
        except OSError:
            return None
        return cls(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def digest_of(kind: str, file: IO[bytes], breathe: Callable[[], None]) -> str:
    """What a list made of this is called; the file is at its beginning then. Raises SourceError when it is too long."""
    hashing, size = hashlib.blake2b(kind.encode() + b"\n", digest_size=16, person=FORMAT), 0
    while data := file.read(CHUNK):
        breathe()
        hashing.update(data)
        size += len(data)
        if size > MOST_OCTETS:
            raise SourceError(f"is larger than {MOST_OCTETS >> 20} MiB")
    file.seek(0)
    return hashing.hexdigest()


def chunks_of(file: IO[bytes], breathe: Callable[[], None]) -> Iterator[bytes]:
    """The text in portions, unpacked if it is a gzip file. Raises SourceError."""
    try:
        for chunk in iter(partial(unpacked(file).read, CHUNK), b""):  # type: ignore[arg-type]
            breathe()
            yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"cannot be read: {error}") from None


def open_list(path: str) -> IO[bytes]:
    """Raises ConfigError when a file cannot be read."""
    try:
        return open_regular(path)
    except ValueError as error:
        raise ConfigError(f"{path} {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def check(sources: tuple[ListSource, ...]) -> None:
    """Raises ConfigError when the file of a list cannot be read, as far as its beginning tells."""
    for source in sources:
        if not source.local:
            continue
        with open_list(source.location) as file:
            try:
                next(chunks_of(file, lambda: None), b"")
            except SourceError as error:
                raise ConfigError(f"{source.location} {error}") from None
