"""Versions of lists, as nodes store and exchange them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

_DIGEST_SIZE = 32


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a list. `digest` is that of its text, `check` that of the compiled list."""

    digest: str
    check: str
    #: When its source was changed, in seconds since 1970.
    modified: float
    names: int
    octets: int

    @classmethod
    def read(cls, told: Any) -> Version:
        """From JSON. Raises ValueError."""
        try:
            digests = digest, check = str(told["digest"]), str(told["check"])
            version = cls(digest, check, float(told["modified"]), int(told["names"]), int(told["octets"]))
        except (TypeError, KeyError, OverflowError):
            raise ValueError("it is no version of a list") from None
        if any(len(each) != _DIGEST_SIZE or not set(each) <= set("0123456789abcdef") for each in digests):
            raise ValueError("a version of a list without a digest")
        return version

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def newer(one: Version | None, other: Version | None) -> Version | None:
    """The one whose source was changed last."""
    if one is None or other is None:
        return one or other
    return max((one, other), key=lambda version: (version.modified, version.digest))
