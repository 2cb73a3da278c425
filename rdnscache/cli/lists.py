"""Reads lists of names to warm the cache with. Anything that is not a name is refused, or upstreams would be asked
it."""

from __future__ import annotations

import csv
import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from rdnscache.dns.names import parse_name, shown, type_number
from rdnscache.files import read_lines, unpacked

#: Longest line in octets; most names of a list; and most lines, since many may be comments.
LONGEST_LINE, MOST_NAMES, MOST_LINES = 8192, 1_000_000, 10_000_000

_COMMENT = re.compile(r"(?:^|\s)#.*")
#: Matches nearly all names.
_ORDINARY = re.compile(r"[A-Za-z0-9_.-]+")
#: What a name is made of in such a list: letters of any script, digits, '-', '_', dots, and what is escaped.
_MEANT = re.compile(r"\\[0-9]{3}|\\[^0-9]|[A-Za-z0-9_.-]|[^\0-\x7f]")
#: OPT, and numbers that are not types of records (RFC 6895 section 3.1).
_NO_RECORDS = frozenset((0, 41, *range(128, 256)))
_A = 1


def read_keys(file: BinaryIO, form: str, limit: int | None) -> list[bytes]:
    """The questions of a list in one of the `FORMS`, without duplicates; only the first `limit` of them, if given.

    The file may be compressed with gzip. Raises ValueError with the number of the line that cannot be parsed.
    """
    keys: dict[bytes, None] = {}
    number = 0
    lines = read_lines(unpacked(file), LONGEST_LINE)
    try:
        for number, line in enumerate(lines, 1):
            if number > MOST_LINES:
                raise ValueError(f"{MOST_LINES} lines are the limit")
            keys.update(dict.fromkeys(_keys(line, FORMS[form], number)))
            if limit is not None and len(keys) >= limit:
                break
            if len(keys) > MOST_NAMES:
                raise ValueError(f"{MOST_NAMES} names are the limit; --limit N takes the first N")
    except ValueError as error:
        raise ValueError(f"line {max(number, 1)}: {error}") from None
    return list(keys)[:limit]


def _keys(line: bytes, parse: Callable[[str, int], Iterator[bytes]], number: int) -> Iterator[bytes]:
    if number == 1 and line.startswith(b"PK\x03\x04"):
        raise ValueError("this is a zip archive: use '-' as FILE, and pipe the output of unzip -p into it")
    if len(line) > LONGEST_LINE:
        raise ValueError(f"it has more than {LONGEST_LINE} octets")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    yield from parse(text, number)


def _names(text: str, number: int) -> Iterator[bytes]:
    """`NAME [TYPE]`; '#' begins a comment."""
    words = _COMMENT.sub("", text).split()
    if len(words) > 1 and _is_address(words[0]):
        raise ValueError(f"{shown(words[0])} is an address, not a name; --format hosts reads a hosts file")
    if len(words) > 2:
        raise ValueError(f"{shown(text)} is more than a name and a type")
    if words:
        rtype = type_number(words[1]) if len(words) > 1 else _A
        if rtype in _NO_RECORDS:
            raise ValueError(f"there are no records of type {words[1]}")
        yield _key(words[0], rtype)


def _ranked(text: str, number: int) -> Iterator[bytes]:
    """`RANK,NAME`, the format of lists of popular names; the first line may be a heading."""
    if not text.strip():
        return
    try:
        rows = list(csv.reader([text]))
    except csv.Error as error:
        raise ValueError(f"{shown(text)} is not RANK,NAME: {error}") from None
    if len(rows[0]) != 2:
        raise ValueError(f"{shown(text)} is not RANK,NAME")
    rank, name = (cell.strip() for cell in rows[0])
    if rank.isascii() and rank.isdigit():
        yield _key(name, _A)
    elif number > 1:
        raise ValueError(f"{shown(text)} is not RANK,NAME")


def _hosts(text: str, number: int) -> Iterator[bytes]:
    """`ADDRESS NAME…` as in hosts(5). Names without a dot are local to a machine, and are left out."""
    words = _COMMENT.sub("", text).split()
    if words and not _is_address(words[0]):
        raise ValueError(f"{shown(words[0])} is not an address")
    for name in words[1:]:
        if "." in name.rstrip(".") and not _is_address(name):
            yield _key(name, _A)


#: The parser for a line of each form.
FORMS: dict[str, Callable[[str, int], Iterator[bytes]]] = {"names": _names, "csv": _ranked, "hosts": _hosts}


def _key(name: str, rtype: int) -> bytes:
    """The key of a question. For anything that is not a name it raises ValueError with the likely mistake."""
    last = name.removesuffix(".").rpartition(".")[2]
    if _ORDINARY.fullmatch(name) is None or last.isdigit():
        _refuse_others(name, last)
    return parse_name(name) + rtype.to_bytes(2, "big") + b"\0\1\0"


def _refuse_others(name: str, last: str) -> None:
    if "://" in name:
        raise ValueError(f"{shown(name)} is a URL, not a name")
    if _is_address(name):
        raise ValueError(f"{shown(name)} is an address, not a name")
    if re.match(r"[0-9]+,", name):
        raise ValueError(f"{shown(name)} is not a name; --format csv reads ranks and names")
    other = _MEANT.sub("", name)
    if other:
        raise ValueError(f"{shown(name)} is not a name: {other[0]!r} stands for itself only as \\{ord(other[0]):03d}")
    if last.isdigit():
        raise ValueError(f"{shown(name)} is not a name: no top-level domain is a number")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True
