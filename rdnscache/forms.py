"""The two forms of the hot modules, compiled or plain Python: which one runs, and how to choose."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType


class SourceOnly:
    """Finds the modules of this package as source, even when a compiled one lies beside it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is None or not name.startswith("rdnscache."):
            return None
        finders = (FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)) for folder in path)
        return next((spec for finder in finders if (spec := finder.find_spec(name, target))), None)


def is_compiled() -> bool:
    """Whether the compiled form is there: either all modules have it, or none."""
    path = Path(__file__).parent / "dns" / "splice"
    return any(path.with_name(path.name + suffix).exists() for suffix in EXTENSION_SUFFIXES)


def prefer_source() -> None:
    """Choose plain Python. Called before the first hot module is imported, when it is asked for or nothing is compiled.

    Modules compiled after that are not used by this process: a supervisor and the workers it forks have the same form.
    """
    sys.meta_path.insert(0, SourceOnly)


def form() -> str:
    """The form's name, as `--version` prints it."""
    from rdnscache.dns import splice

    return "pure Python" if (splice.__file__ or "").endswith(".py") else "compiled"
