"""Response policy zones as zone-file text, read line by line into records of a zone (draft-vixie-dnsop-dns-rpz)."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from rdnscache.dns.names import shown
from rdnscache.dns.wire import CNAME
from rdnscache.policy.list_forms import LONGEST_LINE
from rdnscache.policy.list_text import MOST_ITEMS, SIZES, EndError, Remark, expect_text, lines_of
from rdnscache.policy.local_record import ZoneTextError
from rdnscache.policy.words import name_wire, seconds
from rdnscache.policy.zone_text import ZoneReader

#: TTL of rules in seconds when the text gives none.
DEFAULT_TTL = 60


class ZoneRecord(NamedTuple):
    """A record of a policy zone, as a file or a transfer has it."""

    #: On the wire, in lower case.
    name: bytes
    rtype: int
    #: Seconds.
    ttl: int
    #: Without compression.
    rdata: bytes
    #: Counted from 1; 0 in a zone that was transferred.
    line: int


#: The beginning of such a zone, which distinguishes it from a list.
RPZ = "rpz"
_DIRECTIVE = re.compile(rb"^(?:\$(?:TTL|ORIGIN)[ \t]|[^;#!\n]*[ \t]SOA[ \t])", re.IGNORECASE | re.MULTILINE)
#: The form of nearly all lines in nearly all zones: a name and an action.
_USUAL = re.compile(
    rb"([A-Za-z0-9_*.-]{1,255})[ \t]+(?:([0-9]{1,9})[ \t]+)?(?:IN[ \t]+)?CNAME[ \t]+"
    rb"((?:\*\.)?(?:[A-Za-z0-9_-]{1,63}\.)*|\.)[ \t\r]*(?:;.*)?",
    re.IGNORECASE,
)


@lru_cache(1000)
def _target(text: bytes) -> bytes:
    """Where an alias leads: to actions and to a few gardens."""
    return name_wire(text.decode(), b"\0")


def read_rpz(chunks: Iterable[bytes], origin: str = ".") -> Iterator[ZoneRecord | Remark]:
    """The records of a text, given in portions of any size, and remarks about what was not understood.

    Names are below `origin` until the text says otherwise. No content raises, and no more of it is kept than a portion
    and a record.
    """
    reader, number, count = ZoneReader(name_wire(origin, b"\0"), DEFAULT_TTL), 0, 0
    try:
        for number, line in enumerate(lines_of(chunks), 1):
            found = _usual(reader, number, line) or _read(reader, number, line, count)
            if isinstance(found, ZoneRecord):
                count += 1
                if count > MOST_ITEMS:
                    raise EndError(f"the zone has more than {MOST_ITEMS} records")
            if found is not None:
                yield found
        reader.end()
    except EndError as error:
        yield Remark(number or 1, f"nothing is read from here on: {error}")
    except ZoneTextError as error:
        yield Remark(error.line, error.reason)


def is_zone(head: bytes) -> bool:
    """Whether what begins like this is zone-file text, and not a list."""
    return _DIRECTIVE.search(head) is not None


def _usual(reader: ZoneReader, number: int, line: bytes) -> ZoneRecord | None:
    """Fast path for most lines, since there may be millions. None when the line needs the full parser."""
    found = _USUAL.fullmatch(line)
    if found is None or not reader.between:
        return None
    text, ttl, target = found.groups()
    rest = b"\0" if text.endswith(b".") else reader.origin
    try:
        labels = [SIZES[len(label)] + label for label in text.lower().removesuffix(b".").split(b".")]
        name = b"".join(labels) + rest
        limit = seconds(ttl.decode()) if ttl else -1
        rdata = _target(target.lower())
    except (KeyError, ValueError):
        return None
    if len(name) > 255:
        return None
    return ZoneRecord(name, CNAME, reader.follow(name, limit), rdata, number)


def _read(reader: ZoneReader, number: int, line: bytes, count: int) -> ZoneRecord | Remark | None:
    """Parse any other line."""
    if not count:
        expect_text(line)
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        if len(line) > LONGEST_LINE:
            raise ZoneTextError(number, f"the line has more than {LONGEST_LINE} octets")
        if b"\0" in line:
            raise ZoneTextError(number, f"{shown(line.decode(errors='backslashreplace'))} is not a text")
        record = reader.read(number, line.decode())
    except UnicodeDecodeError:
        return Remark(number, "it is not a text in UTF-8")
    except ZoneTextError as error:
        return Remark(error.line, error.reason)
    if record is None:
        return None
    return ZoneRecord(record.name, record.rtype, record.ttl, record.rdata, record.line)
