"""Explains what a node would do with a question, and why."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rdnscache.address import Address
from rdnscache.clients.networks import Networks
from rdnscache.clients.proxy import host_name
from rdnscache.config import Config
from rdnscache.dns.message import answer_lines
from rdnscache.dns.names import parse_name, parse_own_name, question_text, rcode_text, shown, type_number
from rdnscache.dns.question import question_key
from rdnscache.dns.wire import IN, parse_reply
from rdnscache.dns.zones import Zones
from rdnscache.forwards import DNS_PORT
from rdnscache.lists.sources import ListSource
from rdnscache.policies import PolicyData
from rdnscache.policy.compiled_list import Table
from rdnscache.policy.verdict import DROPPED, TRUNCATED
from rdnscache.view import DEFAULT, groups_at, tls_names_at
from rdnscache.zone import NONE, USUAL, Zone


def view_of(config: Config, client: str, listener: str, tls_name: str = "") -> tuple[str, Config] | None:
    """The view of a client at one of the node's listeners (by default the first), and the configuration there.

    `tls_name` is the name it sends in TLS. None when the client is not allowed; without a client, the default group.
    ValueError for an invalid address.
    """
    named = host_name(tls_name.encode())
    if tls_name and not (client and named):
        raise ValueError(f"{shown(tls_name)} is not a host name" if client else "--tls-name goes with --client")
    if not client:
        return DEFAULT, config
    asked = Address.parse(listener, DNS_PORT) if listener else config.listen[0]
    if asked not in config.listen:
        raise ValueError(f"the node does not listen on {asked}")
    source = ipaddress.ip_address(client).packed
    number = Networks(config.allow, config.deny, groups_at(config.view, asked)).group(source)
    names = tls_names_at(config.view, asked) if named else None
    number = names.group(named, source, number) if names is not None else number
    if number < 0:
        return None
    return (config.view[number - 1].name, config.inside_view(config.view[number - 1])) if number else (DEFAULT, config)


def explain(
    config: Config, data: PolicyData, tables: Mapping[ListSource, Table], name: str, rtype: str, client: str = ""
) -> dict[str, Any]:
    """The facts by name; `question` is the first. Raises ValueError for an invalid name, type or address."""
    key = question_key(parse_name(name), type_number(rtype), IN, 0)
    found: dict[str, Any] = {"question": question_text(key)}
    source = ipaddress.ip_address(client).packed if client else b""
    policy, verdict = data.policy(tables), None
    if source:
        verdict, place = policy.of_client(key, source)
        if place >= 0:
            policy = replace(data, before=place).policy(tables)
            found["let pass by"] = f"rpz={data.lists[place].name}"
    verdict = verdict or policy.of(key)
    if verdict is None:
        found["asked of"] = _servers(config, key)
        terms = policy.terms_of(key)
        return found | ({"of the answer": terms.words()} if terms else {})
    found["decided by"] = verdict.why
    if verdict.action == DROPPED:
        return found | {"answer": "none: the query is dropped"}
    if verdict.action == TRUNCATED:
        return found | {"answer": "over UDP a truncated one, over TCP as usual", "asked of": _servers(config, key)}
    reply = parse_reply(verdict.wire)
    assert reply is not None
    found["answer"] = [rcode_text(reply.rcode), *(answer_lines(reply, True) if reply.ancount else [])]
    return found


def _servers(config: Config, key: bytes) -> str:
    zones = {parse_own_name(name): (name, zone) for zone in config.zone for name in zone.names}
    closed = [wire for wire, (_, zone) in zones.items() if zone.word == NONE]
    table: Zones[tuple[str, Zone] | None] = Zones(None, zones, closed)
    route = table.of(key)
    usual = ", ".join(each.label for each in config.upstream)
    if route is None:
        return usual
    name, zone = route
    if zone.word == NONE:
        return f"nobody: the zone {name} is never forwarded"
    return f"{usual if zone.word == USUAL else ', '.join(each.label for each in zone.upstream)} (zone {name})"
