"""Which form of the hot modules runs: compiled, or the same source in plain Python."""

from __future__ import annotations

from rdnscache.dns import wire

COMPILED = not (wire.__file__ or "").endswith(".py")
BUILD = "compiled" if COMPILED else "pure Python"
