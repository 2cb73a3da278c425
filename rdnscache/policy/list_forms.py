"""The meaning of lines in published block and pass lists.

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

Comments (`#`, `!`, `;`, `//`), headers and cosmetic rules are ignored. Rules that a DNS server cannot apply exactly
(for scripts only, with a path, with a regular expression) are ignored with a remark. So are names of one label: a line
that blocks a whole top-level domain is usually a mistake.
"""

from __future__ import annotations

import codecs
import ipaddress
import re
from collections.abc import Iterator

from rdnscache.dns.names import parse_name, shown

#: Octets of a line; names have 255 at most, but a hosts line may hold several, and an adblock rule many modifiers.
LONGEST_LINE = 4096

#: A name, whether what is below it is meant, and whether it is an exception.
Rule = tuple[bytes, bool, bool]
#: Names in hosts files that are not part of the list.
OF_THE_HOST = frozenset(
    b"localhost localhost.localdomain localhost4 localhost4.localdomain4 localhost6 localhost6.localdomain6 local "
    b"localdomain broadcasthost ip6-localhost ip6-loopback ip6-localnet ip6-mcastprefix ip6-allnodes ip6-allrouters "
    b"ip6-allhosts 0.0.0.0".split()
)


class LineError(ValueError):
    """A line that is not understood; the text is the reason."""


#: Of browsers: which parts of a page to hide, for which sites.
_COSMETIC = re.compile(rb"[^\s#$]*(?:#[@?$%]{0,3}#|\$@?\$)")
_CONTROL = re.compile(rb"[\0-\x08\n-\x1f\x7f]")
_COMMENT = re.compile(rb"\s(?:[#;!]|//).*|#.*", re.DOTALL)
_DNSMASQ = re.compile(rb"(address|server|local)=/(.*)/([^/\s]*)\s*(?:#.*)?", re.DOTALL)
_UNBOUND = re.compile(rb"(local-zone|local-data)\s*:\s*(.*)", re.DOTALL)


def rules_of(line: bytes) -> Iterator[Rule]:
    """The names in a line of any form. LineError is raised at the end, after the parts that were understood."""
    line = line.strip().removeprefix(codecs.BOM_UTF8).strip()
    if not line or line[0] in b"#!;[" or line.startswith(b"//") or _COSMETIC.match(line) or line == b"server:":
        return
    if len(line) > LONGEST_LINE:
        raise LineError(f"the line has more than {LONGEST_LINE} octets")
    if _CONTROL.search(line):
        raise LineError(f"{_shown(line)} has control characters in it")
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


def _hosts(words: list[bytes]) -> Iterator[Rule]:
    names = [word for word in words[1:] if word.lower() not in OF_THE_HOST]
    nowhere = _is_nowhere(words[0])
    if nowhere is None:
        raise LineError(f"{_shown(b' '.join(words))} is not in a form that is known")
    if not nowhere and names:
        raise LineError(f"{_shown(words[0])} is an address to answer with: a list only blocks")
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


def _dnsmasq(option: bytes, names: bytes, target: bytes) -> Iterator[Rule]:
    if target and not (option == b"address" and (target == b"#" or _is_nowhere(target))):
        raise LineError(f"{_shown(target)} is an address to ask or to answer with: a list only blocks")
    yield from _each(names.split(b"/"), True)


#: The types of unbound's local zones that let no answer from upstream through.
_BLOCKING_ZONES = frozenset(
    b"deny refuse static redirect inform_deny inform_redirect always_deny always_refuse always_nxdomain always_nodata "
    b"always_null".split()
)
_LOCAL_ADDRESS = re.compile(rb"(\S+)\s+(?:\d+\s+)?(?:IN\s+)?(?:A|AAAA)\s+(\S+)", re.IGNORECASE)


def _unbound(option: bytes, value: bytes) -> Iterator[Rule]:
    words = value.replace(b'"', b" ").replace(b"'", b" ").split()
    if option == b"local-data":
        found = _LOCAL_ADDRESS.fullmatch(b" ".join(words))
        if found is None or not _is_nowhere(found[2]):
            raise LineError(f"{_shown(value)} is a record to answer with: a list only blocks")
        yield from _each([found[1]], False)
    elif len(words) != 2 or words[1].lower() not in _BLOCKING_ZONES:
        raise LineError(f"{_shown(value)} is not a zone that blocks")
    else:
        yield from _each(words[:1], True)


#: Modifiers that leave a rule what it is where there are only names.
_NOT_NARROWING = frozenset(
    b"important all document doc match-case dnsrewrite=nxdomain dnsrewrite=nxdomain;; dnsrewrite=refused "
    b"dnsrewrite=refused;; dnsrewrite=0.0.0.0 dnsrewrite=:: dnsrewrite=127.0.0.1 dnsrewrite=::1 "
    b"dnsrewrite=noerror;a;0.0.0.0 dnsrewrite=noerror;aaaa;::".split()
)


def _adblock(rule: bytes) -> Iterator[Rule]:
    passes = rule.startswith(b"@@")
    pattern, _, modifiers = rule.removeprefix(b"@@").partition(b"$")
    if pattern.startswith(b"/"):
        raise LineError(f"{_shown(rule)} is a regular expression or a path: only names are read")
    for modifier in modifiers.lower().split(b",") if modifiers else ():
        if modifier not in _NOT_NARROWING or (passes and modifier.startswith(b"dnsrewrite")):
            raise LineError(f"{_shown(rule)} has a modifier that a list of names cannot follow: {_shown(modifier)}")
    anchor = pattern[: len(pattern) - len(pattern.lstrip(b"|"))]
    text = pattern[len(anchor) :].removesuffix(b"|").removesuffix(b"*" if pattern.endswith(b"^*") else b"")
    text = text.removesuffix(b"^")
    if len(anchor) > 2 or (not anchor and b"^" in pattern):
        raise LineError(f"{_shown(rule)} may begin in the middle of a name: only whole names are read")
    yield from _each([text], anchor == b"||", passes)


def _each(words: list[bytes], below: bool, passes: bool = False) -> Iterator[Rule]:
    fault: LineError | None = None
    for word in words:
        if word.lower() in OF_THE_HOST:
            continue
        try:
            yield _rule(word, below, passes)
        except LineError as error:
            fault = fault or error
    if fault:
        raise fault


#: No space, quote, slash, colon or wildcard: who writes these means something else than a name.
NAME = re.compile(rb"[A-Za-z0-9_.\\\x80-\xff-]+")


def _rule(word: bytes, below: bool, passes: bool) -> Rule:
    text = word.removeprefix(b"*") if word.startswith(b"*.") else word
    if text.startswith(b"."):
        text, below = text[1:], True
    if text in (b"", b".", b"*"):
        raise LineError(f"{_shown(word)} is too wide: it would be every name")
    if word.endswith(b"[]"):
        raise LineError(f"the meaning of {_shown(word.removesuffix(b'[]'))} is not known, so it is ignored")
    if NAME.fullmatch(text) is None:
        raise LineError(f"{_shown(word)} is not a domain name")
    try:
        name = parse_name(text.decode())
    except UnicodeDecodeError:
        raise LineError(f"{_shown(word)} is not UTF-8") from None
    except ValueError as error:
        raise LineError(str(error)) from None
    last = start = 0
    while name[start]:
        last, start = start, start + 1 + name[start]
    if last == 0:
        raise LineError(f"{_shown(word)} is too wide: it is a whole top-level domain")
    if name[last + 1 : -1].isdigit():
        raise LineError(f"{_shown(word)} is not a domain name: it ends like an address")
    return name, below, passes


def _shown(octets: bytes) -> str:
    return shown(octets[:LONGEST_LINE].decode(errors="backslashreplace"))
