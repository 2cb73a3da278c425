"""Which entries a flush means, for those who order it and those who carry it out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from rdnscache.dns.names import NAME_WORD, name_text, parse_own_name, rcode_number, rcode_text, type_number, type_text
from rdnscache.dns.question import ANY_TYPE, qname, qtype
from rdnscache.dns.zones import is_below
from rdnscache.store.contract import Names
from rdnscache.store.patterns import glob_escape


class Words(NamedTuple):
    """A scope in terms of Redis keys, without the RCODE: names in presentation form, words for types."""

    name: str | None
    zone: str | None
    kinds: Collection[str] | None

    def holds(self, words: tuple[str, str] | None, any_type: bool = False) -> bool:
        if words is None:
            return False
        name, kind = words
        if self.name not in (None, name) or (self.kinds is not None and not any_type and kind not in self.kinds):
            return False
        return self.zone is None or name == self.zone or name.endswith("." + self.zone)


@dataclass(frozen=True, slots=True)
class Scope:
    """The entries that a flush removes: all, narrowed by each field that is set. Names are in lower-case wire form."""

    name: bytes | None = None
    #: A name and everything below it.
    zone: bytes | None = None
    qtype: int | None = None
    rcode: int | None = None

    @property
    def everything(self) -> bool:
        return self == Scope()

    @property
    def suffix(self) -> bytes:
        """The suffix (wire form) of all names in the scope; empty if it has no name and no zone."""
        return self.name if self.name is not None else self.zone or b""

    def holds(self, key: bytes, rcode: int) -> bool:
        """Whether an entry with this key and RCODE is in the scope."""
        if self.name is not None and qname(key) != self.name:
            return False
        if self.zone is not None and not is_below(qname(key), self.zone):
            return False
        if self.qtype is not None and qtype(key) not in (self.qtype, ANY_TYPE):
            return False
        return self.rcode is None or rcode == self.rcode

    def holds_question(self, key: bytes) -> bool:
        """Whether an answer to a question may be in the scope, with any RCODE, or as the NXDOMAIN of all types."""
        name = qname(key)
        return self.name in (None, name) and (self.zone is None or is_below(name, self.zone))

    def in_words(self) -> Words:
        """The scope in terms of Redis keys."""
        kinds = None if self.qtype is None else (type_text(self.qtype), NAME_WORD)
        zone = None if self.zone in (None, b"\0") else name_text(self.zone or b"")
        return Words(None if self.name is None else name_text(self.name), zone, kinds)

    def pattern(self, names: Names) -> str:
        """A SCAN pattern that matches all keys in the scope, and perhaps more."""
        if self.name is not None:
            inner = glob_escape(name_text(self.name))
        else:
            inner = "*" if self.zone in (None, b"\0") else "*" + glob_escape(name_text(self.zone or b""))
        return f"{glob_escape(names.root)}{{{inner}}}:*"

    def __str__(self) -> str:
        words = [f"{field} {text}" for field, text in self.event().items() if field not in ("event", "name")]
        if self.name is not None:
            words.insert(0, name_text(self.name))
        return ", ".join(words) or "everything"

    def event(self) -> dict[str, str]:
        told = {"event": "flush"}
        if self.name is not None:
            told["name"] = name_text(self.name)
        if self.zone is not None:
            told["zone"] = name_text(self.zone)
        if self.qtype is not None:
            told["type"] = type_text(self.qtype)
        if self.rcode is not None:
            told["rcode"] = rcode_text(self.rcode)
        return told

    @classmethod
    def of(cls, told: dict[str, Any], read_name: Callable[[str], bytes] = parse_own_name) -> Scope:
        """The scope in the fields of an event; with `parse_name`, in a person's request of the same form.

        Raises ValueError if it cannot be read.
        """
        known = {name: told[name] for name in ("name", "zone", "type", "rcode") if name in told}
        if not all(isinstance(value, str) for value in known.values()):
            raise ValueError("a field is not a string")
        return cls(
            name=read_name(known["name"]) if "name" in known else None,
            zone=read_name(known["zone"]) if "zone" in known else None,
            qtype=type_number(known["type"]) if "type" in known else None,
            rcode=rcode_number(known["rcode"]) if "rcode" in known else None,
        )
