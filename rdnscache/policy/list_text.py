"""Block and pass lists as people publish them, read line by line into names.

Which form a line has is decided for each line, since lists are put together from others:

| form | means |
|---|---|
| `0.0.0.0 name name…` (hosts; also `::`, `127.0.0.1`, `::1`) | these names alone |
| `example.com` | this name alone: the convention of Pi-hole, AdGuard Home and blocky |
| `*.example.com`, `.example.com` | the name and what is below it |
| `address=/example.com/`, `server=`, `local=` (dnsmasq) | the name and what is below it |
| `local-zone: "example.com" always_nxdomain` (unbound) | the name and what is below it |
| `local-data: "example.com A 0.0.0.0"` (unbound) | this name alone |
| `||example.com^` (adblock) | the name and what is below it |
| `|example.com^` (adblock) | this name alone |
| `@@` before an adblock rule | never block it |

A list may also be JSON (see `json_text`); a name in it is that name alone.
Comments (`#`, `!`, `;`, `//`), headers and cosmetic rules say nothing. What a DNS server cannot do as it was meant (a
rule for scripts only, a path, a regular expression) is not done by halves: it is passed over with a remark. So is a
name of one label: a line that blocks a whole top-level domain is far more often a slip than meant.
"""

from __future__ import annotations

import codecs
import ipaddress
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from rdnscache.dns.names import parse_name, shown
from rdnscache.policy.json_text import JsonError, JsonName, is_json, json_names

#: Octets of a line; names have 255 at most, but a hosts line may hold several, and an adblock rule many modifiers.
LONGEST_LINE = 4096
#: Octets of a list. The largest published ones have about a tenth of it.
MOST_OCTETS = 512 << 20
#: Names of a list.
MOST_ITEMS = 10_000_000
#: Lines that are remarked upon one by one; the rest are counted.
MOST_REMARKS = 100


class Item(NamedTuple):
    """One name of a list."""

    #: In wire form, lower case.
    name: bytes
    #: What is below the name is meant as well; the name itself always is.
    below: bool
    #: The line it stands in, counted from 1.
    line: int
    #: An exception: never to be blocked.
    passes: bool


class Remark(NamedTuple):
    """A line that gave no name although it was to give one, or the reason why reading ended."""

    line: int
    #: A sentence for people. What it cites is quoted and cut.
    reason: str
    #: For how many lines it stands: more than one only for those beyond MOST_REMARKS.
    lines: int = 1


#: Octets by which it is told what a list is.
_HEAD = 256
#: Octets of a portion that are split into lines at once.
_PORTION = 64 << 10


class _LineError(ValueError):
    """A line that gives no name, with the reason."""


class EndError(ValueError):
    """What comes is not read any further, with the reason."""


#: A name, whether what is below it is meant, and whether it is an exception.
_Rule = tuple[bytes, bool, bool]


def read_list(chunks: Iterable[bytes], passes: bool = False, goes_on: bool = False) -> Iterator[Item | Remark]:
    """The names of a list, given in portions of any size, and remarks about lines that were not understood.

    With `passes` each name is an exception, as in a list of names never to block; what `goes_on` is not the beginning
    of a list. No content raises, and no more of it is kept than a portion and a line. Between two portions `chunks` may
    let others run.
    """
    number = names = faults = first_untold = 0
    head, chunks = begun(chunks, _HEAD) if not goes_on else (b"", chunks)
    try:
        for number, line in _json_lines(chunks) if is_json(head) else enumerate(lines_of(chunks), 1):
            usual = _usual_rule(line)
            if not usual and not names and not goes_on:
                expect_text(line)
            try:
                for name, below, excepted in (usual,) if usual else _rules(line):
                    if names == MOST_ITEMS:
                        raise EndError(f"the list has more than {MOST_ITEMS} names")
                    names += 1
                    yield Item(name, below, number, passes or excepted)
            except _LineError as error:
                faults += 1
                if faults <= MOST_REMARKS:
                    yield Remark(number, str(error))
                first_untold = first_untold or (number if faults > MOST_REMARKS else 0)
    except EndError as error:
        yield Remark(number or 1, f"nothing is read from here on: {error}")
    if first_untold:
        more = faults - MOST_REMARKS
        yield Remark(first_untold, f"from here on, {more} more lines were not understood", more)


def begun(chunks: Iterable[bytes], octets: int) -> tuple[bytes, Iterable[bytes]]:
    """The first octets, at least as many if there are, and all of them."""
    chunks, head = iter(chunks), b""
    for chunk in chunks:
        head += chunk
        if len(head) >= octets:
            break
    return head.removeprefix(codecs.BOM_UTF8), chain((head,), chunks)


def _json_lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The names in JSON as lines of a list would say it, each with its number."""
    octets = 0

    def counted() -> Iterator[bytes]:
        nonlocal octets
        for chunk in chunks:
            octets += len(chunk)
            if octets > MOST_OCTETS:
                raise EndError(f"the list has more than {MOST_OCTETS} octets")
            yield chunk

    try:
        for found in json_names(counted()):
            if isinstance(found, JsonName):
                plain = _NAME.fullmatch(found.text) is not None
                yield found.line, (b"@@|%s^" if found.passes and plain else b"%s") % found.text
            else:
                key, line = found
                yield line, b"%s[]" % key[:100]
    except JsonError as error:
        raise EndError(f"line {error.line}: {error}") from None


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines without their newlines. Of one longer than LONGEST_LINE, at least that much, and not all of it."""
    pending, passing_over, octets = b"", False, 0
    for chunk in chunks:
        for start in range(0, len(chunk), _PORTION):
            portion = chunk[start : start + _PORTION]
            octets += len(portion)
            if octets > MOST_OCTETS:
                raise EndError(f"the list has more than {MOST_OCTETS} octets")
            lines = (pending + portion).split(b"\n")
            pending = lines.pop()
            if passing_over and lines:
                passing_over = False
                del lines[0]
            yield from lines
            if passing_over:
                pending = b""
            elif len(pending) > LONGEST_LINE:
                yield pending
                pending, passing_over = b"", True
    if pending:
        yield pending


#: The forms that nearly every line of nearly every list has.
_USUAL = re.compile(rb"(0\.0\.0\.0[ \t]+|127\.0\.0\.1[ \t]+|\|\||\*\.)?([A-Za-z0-9_.-]{1,255})(\^)?[ \t\r]*")
_WIDE = (b"||", b"*.")
#: A label's length octet. Labels of no octets, and of too many, are not in it.
SIZES = {size: bytes((size,)) for size in range(1, 64)}
#: What hosts files name beside their lists.
_OF_THE_HOST = frozenset(
    b"localhost localhost.localdomain localhost4 localhost4.localdomain4 localhost6 localhost6.localdomain6 local "
    b"localdomain broadcasthost ip6-localhost ip6-loopback ip6-localnet ip6-mcastprefix ip6-allnodes ip6-allrouters "
    b"ip6-allhosts 0.0.0.0".split()
)


def _usual_rule(line: bytes) -> _Rule | None:
    """What most lines are, read without delay: two million of them are a matter of seconds. None: look closer."""
    found = _USUAL.fullmatch(line)
    if found is None:
        return None
    lead, text, caret = found.groups()
    text = text.lower()
    labels = text.split(b".")
    if len(labels) < 2 or labels[-1].isdigit() or (caret and lead != b"||") or text in _OF_THE_HOST:
        return None
    try:
        name = b"".join([SIZES[len(label)] + label for label in labels]) + b"\0"
    except KeyError:
        return None
    return (name, lead in _WIDE, False) if len(name) < 256 else None


def expect_text(line: bytes) -> None:
    """Before the first name was read: what is no list at all is told once, not for each line."""
    head = line[:4]
    # Text in UTF-16 has a zero in every other octet
    in_turn = {(not head[0], not head[2]), (not head[1], not head[3])} if len(head) == 4 else set()
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or in_turn == {(True, True), (False, False)}:
        raise EndError("it is UTF-16; only UTF-8 is read")
    if head[:2] == b"\x1f\x8b" or head in (b"PK\3\4", codecs.BOM_UTF32_BE):
        raise EndError("it is not a text")
    if line.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise EndError("it is a web page, not a list")


#: Of browsers: which parts of a page to hide, for which sites.
_COSMETIC = re.compile(rb"[^\s#$]*(?:#[@?$%]{0,3}#|\$@?\$)")
_CONTROL = re.compile(rb"[\0-\x08\n-\x1f\x7f]")
_COMMENT = re.compile(rb"\s(?:[#;!]|//).*|#.*", re.DOTALL)
_DNSMASQ = re.compile(rb"(address|server|local)=/(.*)/([^/\s]*)\s*(?:#.*)?", re.DOTALL)
_UNBOUND = re.compile(rb"(local-zone|local-data)\s*:\s*(.*)", re.DOTALL)


def _rules(line: bytes) -> Iterator[_Rule]:
    """What a line of any form says. _LineError comes last: what was understood of the line has been given then."""
    line = line.strip().removeprefix(codecs.BOM_UTF8).strip()
    if not line or line[0] in b"#!;[" or line.startswith(b"//") or _COSMETIC.match(line) or line == b"server:":
        return
    if len(line) > LONGEST_LINE:
        raise _LineError(f"the line has more than {LONGEST_LINE} octets")
    if _CONTROL.search(line):
        raise _LineError(f"{_shown(line)} has control characters in it")
    if found := _DNSMASQ.fullmatch(line):
        yield from _dnsmasq(*found.groups())
        return
    line = _COMMENT.sub(b"", line).rstrip()
    if found := _UNBOUND.fullmatch(line):
        yield from _unbound(*found.groups())
        return
    words = line.split()
    if len(words) > 1:
        yield from _hosts(words)
    elif line.startswith((b"@@", b"|", b"/")) or b"^" in line or b"$" in line:
        yield from _adblock(line)
    else:
        yield from _each(words, False)


def _hosts(words: list[bytes]) -> Iterator[_Rule]:
    names = [word for word in words[1:] if word.lower() not in _OF_THE_HOST]
    nowhere = _is_nowhere(words[0])
    if nowhere is None:
        raise _LineError(f"{_shown(b' '.join(words))} is not in a form that is known")
    if not nowhere and names:
        raise _LineError(f"{_shown(words[0])} is an address to answer with: a list only blocks")
    yield from _each(names, False)


def _is_nowhere(word: bytes) -> bool | None:
    """Whether an address is one of those that lists block with; None for what is no address."""
    if word in (b"0.0.0.0", b"127.0.0.1", b"::", b"::1", b"0"):
        return True
    try:
        address = ipaddress.ip_address(word.partition(b"%")[0].decode("ascii"))
    except ValueError:
        return None
    return address.is_unspecified or address.is_loopback


def _dnsmasq(option: bytes, names: bytes, target: bytes) -> Iterator[_Rule]:
    if target and not (option == b"address" and (target == b"#" or _is_nowhere(target))):
        raise _LineError(f"{_shown(target)} is an address to ask or to answer with: a list only blocks")
    yield from _each(names.split(b"/"), True)


#: The types of unbound's local zones that let no answer from upstream through.
_BLOCKING_ZONES = frozenset(
    b"deny refuse static redirect inform_deny inform_redirect always_deny always_refuse always_nxdomain always_nodata "
    b"always_null".split()
)
_LOCAL_ADDRESS = re.compile(rb"(\S+)\s+(?:\d+\s+)?(?:IN\s+)?(?:A|AAAA)\s+(\S+)", re.IGNORECASE)


def _unbound(option: bytes, value: bytes) -> Iterator[_Rule]:
    words = value.replace(b'"', b" ").replace(b"'", b" ").split()
    if option == b"local-data":
        found = _LOCAL_ADDRESS.fullmatch(b" ".join(words))
        if found is None or not _is_nowhere(found[2]):
            raise _LineError(f"{_shown(value)} is a record to answer with: a list only blocks")
        yield from _each([found[1]], False)
    elif len(words) != 2 or words[1].lower() not in _BLOCKING_ZONES:
        raise _LineError(f"{_shown(value)} is not a zone that blocks")
    else:
        yield from _each(words[:1], True)


#: Modifiers that leave a rule what it is where there are only names.
_NOT_NARROWING = frozenset(
    b"important all document doc match-case dnsrewrite=nxdomain dnsrewrite=nxdomain;; dnsrewrite=refused "
    b"dnsrewrite=refused;; dnsrewrite=0.0.0.0 dnsrewrite=:: dnsrewrite=127.0.0.1 dnsrewrite=::1 "
    b"dnsrewrite=noerror;a;0.0.0.0 dnsrewrite=noerror;aaaa;::".split()
)


def _adblock(rule: bytes) -> Iterator[_Rule]:
    passes = rule.startswith(b"@@")
    pattern, _, modifiers = rule.removeprefix(b"@@").partition(b"$")
    if pattern.startswith(b"/"):
        raise _LineError(f"{_shown(rule)} is a regular expression or a path: only names are read")
    for modifier in modifiers.lower().split(b",") if modifiers else ():
        if modifier not in _NOT_NARROWING or (passes and modifier.startswith(b"dnsrewrite")):
            raise _LineError(f"{_shown(rule)} has a modifier that a list of names cannot follow: {_shown(modifier)}")
    anchor = pattern[: len(pattern) - len(pattern.lstrip(b"|"))]
    text = pattern[len(anchor) :].removesuffix(b"|").removesuffix(b"*" if pattern.endswith(b"^*") else b"")
    text = text.removesuffix(b"^")
    if len(anchor) > 2 or (not anchor and b"^" in pattern):
        raise _LineError(f"{_shown(rule)} may begin in the middle of a name: only whole names are read")
    yield from _each([text], anchor == b"||", passes)


def _each(words: list[bytes], below: bool, passes: bool = False) -> Iterator[_Rule]:
    fault: _LineError | None = None
    for word in words:
        if word.lower() in _OF_THE_HOST:
            continue
        try:
            yield _rule(word, below, passes)
        except _LineError as error:
            fault = fault or error
    if fault:
        raise fault


#: No space, quote, slash, colon or wildcard: who writes these means something else than a name.
_NAME = re.compile(rb"[A-Za-z0-9_.\\\x80-\xff-]+")


def _rule(word: bytes, below: bool, passes: bool) -> _Rule:
    text = word.removeprefix(b"*") if word.startswith(b"*.") else word
    if text.startswith(b"."):
        text, below = text[1:], True
    if text in (b"", b".", b"*"):
        raise _LineError(f"{_shown(word)} is too wide: it would be every name")
    if word.endswith(b"[]"):
        raise _LineError(f"what is in {_shown(word.removesuffix(b'[]'))} is not known, so none of it is read")
    if _NAME.fullmatch(text) is None:
        raise _LineError(f"{_shown(word)} is not a domain name")
    try:
        name = parse_name(text.decode())
    except UnicodeDecodeError:
        raise _LineError(f"{_shown(word)} is not UTF-8") from None
    except ValueError as error:
        raise _LineError(str(error)) from None
    last = start = 0
    while name[start]:
        last, start = start, start + 1 + name[start]
    if last == 0:
        raise _LineError(f"{_shown(word)} is too wide: it is a whole top-level domain")
    if name[last + 1 : -1].isdigit():
        raise _LineError(f"{_shown(word)} is not a domain name: it ends like an address")
    return name, below, passes


def _shown(octets: bytes) -> str:
    return shown(octets[:LONGEST_LINE].decode(errors="backslashreplace"))
