"""The words on the command line of `query` and `flush`: names and types in any order, as with dig."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rdnscache.address import Address
from rdnscache.dns.names import class_number, shown, type_number

#: Flags with a '+' and their synonyms; each can be reversed with `+no…`.
FLAGS = {"short": "short", "tcp": "tcp", "vc": "tcp", "dnssec": "do", "do": "do", "cdflag": "cd", "cd": "cd"}
#: Flags of dig that are not supported, with a hint.
_OTHERS = {"trace": "; --trace shows where an answer comes from"}
_NAMED = re.compile(r"(?P<host>[^\s:#@\[\]/]{1,255}?)(?:[:#@](?P<port>[0-9]{1,5}))?")
DNS_PORT = 53


@dataclass(slots=True)
class Words:
    """The words of a command line, by kind."""

    names: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)
    flags: dict[str, bool] = field(default_factory=dict)


def sort_out(words: Sequence[str], named: bool = True) -> Words:
    """Tell names from types, classes, @servers and +flags. Raises ValueError for an unknown flag.

    If every word could be a type, the first one is the name, unless there is one already: `query mx`, `query ns A`. A
    final dot makes any word a name.
    """
    found = Words()
    kinds: list[tuple[list[str], str]] = []
    for word in words:
        if word.startswith("@") and len(word) > 1:
            found.servers.append(word[1:])
        elif word.startswith("+") and len(word) > 1:
            flag, wanted = _flag(word)
            found.flags[flag] = wanted
        elif _is(class_number, word) and word.upper() != "ANY":
            kinds.append((found.classes, word))
        else:
            kinds.append((found.types if _is(type_number, word) else found.names, word))
    if named and kinds and all(into is not found.names for into, _ in kinds):
        kinds[0] = (found.names, kinds[0][1])
    for into, word in kinds:
        into.append(word)
    return found


def one_name(names: Sequence[str]) -> str:
    """Raises ValueError when there is no name, or more than one."""
    if not names:
        raise ValueError("give a NAME, or an address with -x")
    if len(names) > 1:
        odd = next((name for name in names[1:] if "." not in name), "")
        raise ValueError(f"{shown(odd)} is not a DNS type" if odd else f"one NAME at a time, not {' and '.join(names)}")
    return names[0]


def _is(read: Callable[[str], int], word: str) -> bool:
    try:
        read(word)
    except ValueError:
        return False
    return True


def _flag(word: str) -> tuple[str, bool]:
    text = word[1:].lower()
    for name, wanted in ((text, True), (text.removeprefix("no"), False)):
        if name in FLAGS:
            return FLAGS[name], wanted
    known = ", ".join(f"+{name}" for name in FLAGS)
    raise ValueError(f"{shown(word)} is not supported, only {known}{_OTHERS.get(text, '')}")


def reverse_name(address: str) -> str:
    """The reverse name of an address. Raises ValueError for anything else."""
    try:
        return f"{ipaddress.ip_address(address).reverse_pointer}."
    except ValueError:
        raise ValueError(f"-x: {shown(address)} is not an address") from None


def find_server(text: str, port: int | None) -> list[Address]:
    """The addresses of a server that is given as an address or a name, with its own port or else `port`.

    Raises ValueError for anything else, OSError for a name without an address.
    """
    try:
        return [Address.parse(text, port or DNS_PORT)]
    except ValueError as error:
        match = _NAMED.fullmatch(text)
        if match is None or re.fullmatch(r"[0-9.]+|.*%.*", match["host"]):
            told = str(error)
            raise ValueError(f"{told}, nor a name" if "is not an" in told else told) from None
    number = int(match["port"] or port or DNS_PORT)
    if number > 65535:
        raise ValueError(f"{text!r} has a port above 65535")
    try:
        found = socket.getaddrinfo(match["host"], number, type=socket.SOCK_DGRAM)
    except UnicodeError:
        raise ValueError(f"{shown(text)} is neither an address nor a name") from None
    return [Address(str(each[4][0]), int(each[4][1])) for each in found]
