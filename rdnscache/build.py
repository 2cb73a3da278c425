"""Two forms of the hot modules: compiled, or the same source in plain Python. Which one runs, and how to choose."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType


class SourceOnly:
    """Finds the modules of this package as source, whatever has been compiled beside it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is None or not name.startswith("rdnscache."):
            return None
        finders = (FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)) for folder in path)
        return next((spec for finder in finders if (spec := finder.find_spec(name, target))), None)


def prefer_source() -> None:
    """Called before the first hot module is imported (RDNSCACHE_PURE=1)."""
    sys.meta_path.insert(0, SourceOnly)


def form() -> str:
    """What `--version` says."""
    from rdnscache.dns import splice

    return "pure Python" if (splice.__file__ or "").endswith(".py") else "compiled"
