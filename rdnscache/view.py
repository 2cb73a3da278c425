"""Views: groups of clients with policies and upstreams of their own, as configured."""

from __future__ import annotations

import difflib
import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from itertools import product
from typing import Any

from rdnscache.address import Address
from rdnscache.clients.networks import MOST_GROUPS, Network, Networks, parse_networks
from rdnscache.clients.proxy import host_name
from rdnscache.clients.tls_names import TlsNames
from rdnscache.dns.names import name_text, parse_name, shown
from rdnscache.zone import Setting

#: The options of a node that a view may set; for any other the node's value applies.
OPTIONS = (
    "upstream", "zone", "records", "hosts", "block", "pass_", "rpz", "block_answer", "special_names", "single_label",
    "rebind_protection", "rebind_allow", "filter_types", "dns64", "dns64_exclude",
)  # fmt: skip
#: Those of them that determine which upstreams are asked.
ROUTING = ("upstream", "zone")
#: Most client networks of all views together.
MOST_NETWORKS = 100_000
#: Most TLS names of all views together.
MOST_TLS_NAMES = 10_000
#: The name of the group of all other clients.
DEFAULT = "default"
#: Keys of a view's table other than options; and the options by their keys.
_OWN = ("name", "clients", "listen", "tls_names")
_OPTIONS = {option.removesuffix("_"): option for option in OPTIONS}
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class View:
    """A group of clients, given by their networks (any if empty), the listeners they use (all if empty) and the host
    names they send in TLS (not considered if empty)."""

    name: str
    clients: tuple[str, ...] = ()
    listen: tuple[Address, ...] = ()
    #: In lower case; `*.example.com` is every name below `example.com`.
    tls_names: tuple[str, ...] = ()
    #: Options that the view sets, and their values.
    settings: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.name}={','.join([*self.clients, *map(str, self.listen), *self.tls_names])}"

    @property
    def networks(self) -> tuple[str, ...]:
        return self.clients or ("any",)

    @property
    def routes(self) -> bool:
        """Whether it may use upstreams other than the usual ones."""
        return any(option in ROUTING for option, _ in self.settings)

    @property
    def decides(self) -> bool:
        """Whether it sets options of the policy."""
        return any(option not in ROUTING for option, _ in self.settings)

    def table(self) -> dict[str, Any]:
        """The view as its table in TOML."""
        told: dict[str, Any] = {"name": self.name}
        if self.clients:
            told["clients"] = list(self.clients)
        if self.listen:
            told["listen"] = [str(each) for each in self.listen]
        if self.tls_names:
            told["tls_names"] = list(self.tls_names)
        return told | {option.removesuffix("_"): _plain(value) for option, value in self.settings}


def _plain(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    return [each.table() if hasattr(each, "table") else str(each) for each in value]


def read(raw: Any, setting: Setting) -> tuple[View, ...]:
    """The views in tables, or in a text that has them in TOML. Raises ValueError with one sentence."""
    found: list[View] = []
    for table in _tables(raw):
        view = _view(table, setting)
        if any(view.name == each.name for each in found):
            raise ValueError(f"there are two views with the name {view.name}")
        found.append(view)
    if len(found) > MOST_GROUPS:
        raise ValueError(f"there are {len(found)} views; {MOST_GROUPS} is the limit")
    _refuse_equals(found)
    return tuple(found)


def _tables(raw: Any) -> Iterator[dict[str, Any]]:
    for item in raw if isinstance(raw, list | tuple) else [raw]:
        if isinstance(item, str):
            try:
                found = tomllib.loads(f"view = {item}")["view"]
            except (ValueError, RecursionError):
                found = None
        else:
            found = item
        for table in found if isinstance(found, list) else [found]:
            if not isinstance(table, dict):
                raise ValueError(f"{shown(str(item))} is no view, which is a table: "
                                 '{name = "kids", clients = ["192.0.2.0/24"], block = ["kids.txt"]}')  # fmt: skip
            yield table


def _view(table: dict[str, Any], setting: Setting) -> View:
    keys = (*_OWN, *_OPTIONS)
    unknown = next((key for key in table if key not in keys), None)
    if unknown is not None:
        close = difflib.get_close_matches(unknown.replace("-", "_"), keys, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(keys)}"
        raise ValueError(f"{shown(unknown)} is no key of a view: {hint}")
    name = table.get("name")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ValueError("a view has a name of 1 to 64 letters, digits, '_', '-' and, not first, '.'")
    if name == DEFAULT:
        raise ValueError(f"the name {DEFAULT} is that of all clients in no view")
    found: dict[str, Any] = {}
    for key, option in (("clients", "allow"), ("listen", "listen"), *_OPTIONS.items()):
        if key in table:
            try:
                found[option] = setting(option, table[key])
            except ValueError as error:
                raise ValueError(f"view {name}: {key}: {error}") from None
    clients, listen = found.pop("allow", ()), found.pop("listen", ())
    tls_names = _tls_names(name, table.get("tls_names", ()))
    if not clients and not listen and not tls_names:
        raise ValueError(f"view {name} has no clients: name their networks in clients, listeners in listen, or what "
                         "they name in TLS in tls_names")  # fmt: skip
    return View(name, clients, listen, tls_names, tuple(found.items()))


def _tls_names(view: str, raw: Any) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for item in raw if isinstance(raw, list | tuple) else [raw]:
        text = item.removeprefix("*.") if isinstance(item, str) else ""
        try:
            name = host_name(name_text(parse_name(text)).encode()).decode()
        except ValueError:
            name = ""
        if not name:
            raise ValueError(f"view {view}: tls_names: {shown(str(item))} is neither a host name nor *. before one")
        found[f"*.{name}" if text != item else name] = None
    return tuple(found)


def _refuse_equals(views: Sequence[View]) -> None:
    """Refuse views that overlap: no client of a listener may be in two views by networks of the same length."""
    if sum(len(view.tls_names) for view in views) > MOST_TLS_NAMES:
        raise ValueError(f"the views have more than {MOST_TLS_NAMES} tls_names, the limit")
    known: dict[tuple[Network, Address | None, str], str] = {}
    for view in views:
        networks = [each for text in view.networks for each in parse_networks(text)]
        for network, listener, named in product(networks, view.listen or (None,), view.tls_names or ("",)):
            other = known.setdefault((network, listener, named), view.name)
            if len(known) > MOST_NETWORKS:
                raise ValueError(f"the views have more than {MOST_NETWORKS} networks of clients, the limit")
            if other != view.name:
                where = (f" at {listener}" if listener else "") + (f" with {named}" if named else "")
                raise ValueError(f"{network}{where} is in two views, {other} and {view.name}")


def shut_out(views: Iterable[View], allow: Sequence[str]) -> Iterator[str]:
    """A warning about each view none of whose clients may ask."""
    allowed = _ranges(allow)
    for view in views if allowed else ():
        found = ((each, bisect_right(allowed, (each[0], each[2], 1 << 128)) - 1) for each in _ranges(view.networks))
        # as no network is inside another, only the last one that begins before this one's end can overlap it
        if not any(at >= 0 and allowed[at][0] == each[0] and allowed[at][2] >= each[1] for each, at in found):
            yield f"view {view.name}: none of its clients is answered, allow has other networks"


def _ranges(texts: Sequence[str]) -> list[tuple[int, int, int]]:
    """The ranges of networks (version, first and last address), sorted, without networks inside others."""
    networks = [network for text in texts for network in parse_networks(text)]
    v4 = collapse_addresses(each for each in networks if isinstance(each, IPv4Network))
    v6 = collapse_addresses(each for each in networks if isinstance(each, IPv6Network))
    found: list[Network] = [*v4, *v6]
    return [(each.version, int(each.network_address), int(each.broadcast_address)) for each in found]


_Groups = list[tuple[int, tuple[str, ...]]]


def groups_at(views: Sequence[View], listener: Address) -> _Groups:
    """The numbers of the views that apply at a listener regardless of TLS names, and their networks. Of equal networks
    the last one counts: that of a view that names the listener."""
    return [(number, view.networks) for number, view in _at(views, listener) if not view.tls_names]


def tls_names_at(views: Sequence[View], listener: Address) -> TlsNames | None:
    """The groups of clients by TLS name at a listener; None when TLS names make no difference there."""
    groups: dict[str, _Groups] = {}
    for number, view in _at(views, listener):
        for name in view.tls_names:
            groups.setdefault(name, []).append((number, view.networks))
    known: dict[tuple[tuple[int, tuple[str, ...]], ...], int | Networks] = {}
    for each in map(tuple, groups.values()):
        if each not in known:
            alone = len(each) == 1 and each[0][1] == ("any",)
            known[each] = each[0][0] if alone else Networks(("any",), groups=each)
    return TlsNames({name: known[tuple(each)] for name, each in groups.items()}) if groups else None


def _at(views: Sequence[View], listener: Address) -> list[tuple[int, View]]:
    numbered = [(number, view) for number, view in enumerate(views, 1) if not view.listen or listener in view.listen]
    return sorted(numbered, key=lambda each: bool(each[1].listen))
