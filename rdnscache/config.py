"""The configuration: one typed object, made from one table of options.

Names, defaults, help texts, environment variables, TOML keys and docs/configuration.md all come from the fields of
`Config`. A value on the command line beats the environment, which beats the file, which beats the default.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rdnscache import contradictions, forwards, rpz_source
from rdnscache import option_parsers as values
from rdnscache import view as views
from rdnscache import zone as zones
from rdnscache.address import Address
from rdnscache.clients.networks import DEFAULT_ALLOW
from rdnscache.config_sources import read_toml, strange_variables
from rdnscache.config_text import env_name, flag_name, toml_name
from rdnscache.endpoint import Endpoint
from rdnscache.errors import ConfigError
from rdnscache.forwards import DNS_PORT
from rdnscache.kernel import cpus
from rdnscache.option_parsers import Parser
from rdnscache.policy.special_names import DEFAULT_SETS
from rdnscache.rpz_source import RpzSource
from rdnscache.view import View
from rdnscache.zone import USUAL, Zone

RESOLV_CONF = Path("/etc/resolv.conf")
#: Options that may be tables in TOML.
TABLES = ("view", "zone")


def _option(
    default: Any, metavar: str, help_text: str, parse: Parser, shown: str = "", fixed: bool = False, own: bool = False
) -> Any:
    """A field of Config. `parse` converts a value from the command line, the environment or TOML, or raises ValueError.

    A `fixed` option changes only at a restart: sockets, the embedded server or other nodes depend on it. An option that
    is the node's `own` may differ between nodes; all others should be the same everywhere.
    """
    told = {"metavar": metavar, "help": help_text, "parse": parse, "shown": shown, "fixed": fixed, "own": own}
    return field(default=default, metadata=told)


@dataclass(frozen=True, slots=True)
class Config:
    """All options of a node. Times are in seconds."""

    listen: tuple[Address, ...] = _option(
        (Address("127.0.0.1", 5300),), "ADDR:PORT", "Serve UDP and TCP at this address; repeatable.",
        values.addresses(None), "127.0.0.1:5300",
        fixed=True, own=True,
    )  # fmt: skip
    upstream: tuple[Endpoint, ...] = _option(
        (), "ADDR|URL", "Forward to this server; a URL says how: tls://192.0.2.53#dns.example. Repeatable.",
        values.upstreams, "those in /etc/resolv.conf",
    )  # fmt: skip
    upstream_file: str = _option(
        "", "FILE", "Read upstreams from a file with one address or URL on each line.", values.text, "none", own=True
    )
    zone: tuple[Zone, ...] = _option(
        (), "NAME=SERVERS",
        "Ask these servers, or none, for names in a zone: corp.example=10.0.0.53,10.0.0.54; 10.0.0.0/8 stands for "
        "its reverse zone. Repeatable.",
        lambda raw: zones.read(raw, _setting), "no zones",
    )  # fmt: skip
    records: tuple[str, ...] = _option(
        (), "FILE", "Answer with these records, zone-file text (RFC 1035); repeatable.", values.texts_or_files, "none"
    )
    hosts: tuple[str, ...] = _option(
        (), "FILE", "Answer with the names and addresses of a hosts file; repeatable.", values.texts_or_files, "none"
    )
    block: tuple[str, ...] = _option(
        (), "FILE|URL", "Block the names of a list in hosts, domain or adblock format; repeatable.",
        values.texts, "none",
    )  # fmt: skip
    pass_: tuple[str, ...] = _option(
        (), "FILE|URL", "Never block the names of this list; repeatable.", values.texts, "none"
    )
    rpz: tuple[RpzSource, ...] = _option(
        (), "FILE|axfr://SERVER/ZONE", "Apply this response policy zone; the first one takes precedence; repeatable.",
        rpz_source.read, "none",
    )  # fmt: skip
    list_refresh: int = _option(
        86400, "SECONDS", "Fetch lists from URLs again after this; one node does it.", values.number(int, 60, 10**7)
    )
    list_dir: str = _option(
        "", "DIR", "Keep lists here, for all workers and for starts without Redis or network.",
        values.text, "a directory for services or of the user", own=True,
    )  # fmt: skip
    block_answer: str = _option(
        "nxdomain", "ANSWER", "Answer for blocked names: nxdomain, null (0.0.0.0 and ::), refused, or an address.",
        values.block_answer,
    )  # fmt: skip
    special_names: tuple[str, ...] = _option(
        DEFAULT_SETS, "SET", "Special-use names to answer locally: a set, no-SET, default, all or none; repeatable.",
        values.special_names, "default",
    )  # fmt: skip
    single_label: bool = _option(
        False, "yes|no", "Also ask upstreams for names of one label, such as printer.", values.switch, "no"
    )
    rebind_protection: bool = _option(
        False, "yes|no", "Refuse private addresses, except in zones with their own servers.", values.switch, "no"
    )
    rebind_allow: tuple[str, ...] = _option(
        (), "NAME", "Allow private addresses for this name and all below it; repeatable.", values.zones, "none"
    )
    filter_types: tuple[str, ...] = _option(
        (), "TYPE", "Remove records of this type, such as AAAA without IPv6; repeatable.", values.types, "none"
    )
    dns64: str = _option(
        "", "no|yes|PREFIX", "Make AAAA from A for a network with NAT64; yes: with 64:ff9b::/96.", values.dns64, "no"
    )
    dns64_exclude: tuple[str, ...] = _option(
        ("::ffff:0:0/96",), "NETWORK", "AAAA records that DNS64 ignores; repeatable.", values.networks6, "::ffff:0:0/96"
    )
    view: tuple[View, ...] = _option(
        (), "TABLE",
        "Give a group of clients its own policy: {name = \"kids\", clients = [\"10.0.1.0/24\"], block = "
        "[\"kids.txt\"]}. Repeatable.",
        lambda raw: views.read(raw, _setting), "no views",
    )  # fmt: skip
    redis: str = _option(
        "embedded", "URL|embedded|none", "The shared cache: a URL; embedded, a server that this node starts; or none.",
        values.redis_url, fixed=True, own=True,
    )  # fmt: skip
    prefix: str = _option("rdns", "WORD", "Prefix of every key and channel in Redis.", values.word, fixed=True)
    secret: tuple[str, ...] = _option(
        (), "ID:TEXT|file:PATH", "Sign entries and accept only signed ones; the first signs, all verify.",
        values.secrets, "none",
    )  # fmt: skip
    embedded_memory: int = _option(
        64 << 20, "SIZE", "Memory of the embedded server.", values.size, "64mb", fixed=True, own=True
    )
    workers: int = _option(0, "N", "Worker processes.", values.number(int, 1, 256), "the CPUs", fixed=True, own=True)
    node_id: str = _option(
        "", "WORD", "Name of this node in Redis and logs.", values.word, "the host's name and the port", fixed=True,
        own=True,
    )  # fmt: skip
    admin: Address | None = _option(
        None, "ADDR:PORT", "Serve a live page, /metrics, /healthz and /readyz over HTTP here.", values.address(None),
        "off", fixed=True, own=True,
    )  # fmt: skip
    admin_token: str = _option(
        "", "TEXT|file:PATH", "Token for orders, look-ups and clients on the live page; empty: no orders.",
        values.secret, "none",
    )  # fmt: skip
    admin_read_token: str = _option(
        "", "TEXT|file:PATH", "Token for metrics and the live page, Bearer or password; the admin token does as well.",
        values.secret, "none",
    )  # fmt: skip
    admin_host: tuple[str, ...] = _option(
        (), "NAME", "Serve the live page under this host name, beside addresses and localhost; repeatable.",
        values.hosts, "none",
        own=True,
    )  # fmt: skip
    admin_clients: str = _option(
        "networks", "no|networks|addresses", "What the live page shows of clients; networks are /24 and /56.",
        values.one_of("no", "networks", "addresses"),
    )  # fmt: skip
    admin_sample: int = _option(
        0, "N", "Keep one of N queries for the search on the live page; 0: none.", values.number(int, 0, 10**9)
    )
    identity: bool = _option(
        True, "yes|no", "Answer version.bind, id.server and the like in class CH.", values.switch, "yes"
    )
    allow: tuple[str, ...] = _option(
        DEFAULT_ALLOW, "NETWORK", "Answer these clients: a network, an address, loopback, private or any; repeatable.",
        values.networks, " ".join(DEFAULT_ALLOW),
    )  # fmt: skip
    deny: tuple[str, ...] = _option(
        (), "NETWORK", "Refuse these clients even if a shorter prefix allows them; repeatable.", values.networks, "none"
    )
    proxy_from: tuple[str, ...] = _option(
        (), "NETWORK", "Balancers that send PROXY v2 headers, with every datagram and connection; repeatable.",
        values.networks, "none",
    )  # fmt: skip
    rate_limit: float = _option(
        0.0, "N", "UDP replies a second that each worker sends to one client prefix (/24, /56); 0: no limit.",
        values.number(float, 0, 10**6), "0",
    )  # fmt: skip
    rate_limit_slip: int = _option(
        2, "N", "Truncate every N-th reply over the limit, drop the others; 0 drops all.", values.number(int, 0, 100)
    )
    rate_limit_exempt: tuple[str, ...] = _option(
        ("loopback",), "NETWORK", "Never limit these clients; repeatable.", values.networks, "loopback"
    )
    l1_entries: int = _option(100_000, "N", "Entries in each worker's local cache.", values.number(int, 1, 100_000_000))
    l1_memory: int = _option(64 << 20, "SIZE", "Memory of each worker's local cache.", values.size, "64mb")
    cache: bool = _option(True, "yes|no", "Keep answers; best set for a zone.", values.switch, "yes")
    ttl_min: int = _option(0, "SECONDS", "Raise lower TTLs to this.", values.number(int, 0, 86400))
    ttl_max: int = _option(86400, "SECONDS", "Lower higher TTLs to this.", values.number(int, 1, 604800))
    negative_ttl_max: int = _option(
        3600, "SECONDS", "Keep NXDOMAIN and NODATA no longer than this.", values.number(int, 1, 86400)
    )
    failure_ttl: int = _option(5, "SECONDS", "Keep failures this long (RFC 9520).", values.number(int, 1, 300))
    stale_after: float = _option(
        1.8, "SECONDS", "Answer with a stale entry when no fresh one has arrived after this.",
        values.number(float, 0.05, 60),
    )  # fmt: skip
    rotate: str = _option(
        "off", "off|id", "Order of several addresses: as the upstream sent them, or rotated by the query's ID.",
        values.one_of("off", "id"),
    )  # fmt: skip
    prefetch: bool = _option(True, "yes|no", "Refresh entries in use shortly before they expire.", values.switch, "yes")
    stale_window: int = _option(
        3600, "SECONDS", "Keep entries past their TTL, for when no upstream answers (RFC 8767).",
        values.number(int, 0, 259200),
    )  # fmt: skip
    upstream_policy: str = _option(
        "fastest", "POLICY",
        "Whom to ask first: fastest, round-robin, ordered, random (by weight), or race (two at once).",
        values.one_of("fastest", "round-robin", "ordered", "random", "race"),
    )  # fmt: skip
    upstream_budget: float = _option(
        0.0, "N/s", "Queries a second that the cluster as a whole may send to each upstream; 0: any number.",
        values.rate, "0",
    )  # fmt: skip
    upstream_timeout: float = _option(
        2.0, "SECONDS", "Give up on an upstream that is silent for this long.", values.number(float, 0.05, 30)
    )
    upstream_retry_min: float = _option(
        0.02, "SECONDS", "Wait at least this long before asking again or elsewhere; the actual wait is measured.",
        values.number(float, 0.001, 30),
    )  # fmt: skip
    upstream_retry_max: float = _option(
        1.0, "SECONDS", "Ask a second time when an answer takes longer than this.", values.number(float, 0.01, 30)
    )
    upstream_deadline: float = _option(
        4.5, "SECONDS", "Give up asking upstreams, before clients do.", values.number(float, 0.05, 60)
    )
    ecs: str = _option(
        "strip", "strip|forward|add",
        "Client subnet sent to upstreams (RFC 7871): none, what clients send, or else their address.",
        values.one_of("strip", "forward", "add"),
    )  # fmt: skip
    ecs_prefix4: int = _option(24, "BITS", "Longest IPv4 prefix sent to upstreams.", values.number(int, 1, 32))
    ecs_prefix6: int = _option(56, "BITS", "Longest IPv6 prefix sent to upstreams.", values.number(int, 1, 128))
    upstream_check: float = _option(
        0.0, "SECONDS", "Probe an upstream that has not been heard from for this long; 0: never.",
        values.number(float, 0, 3600), "0",
    )  # fmt: skip
    upstream_0x20: str = _option(
        "auto", "auto|yes|no",
        "Randomize letter case in UDP queries, which a forger has to guess; auto: public addresses only.",
        values.one_of("auto", "yes", "no"),
    )  # fmt: skip
    upstream_cookies: bool = _option(
        True, "yes|no", "Send DNS cookies over UDP, and require them of upstreams that support them (RFC 7873).",
        values.switch, "yes",
    )  # fmt: skip
    redis_budget: float = _option(
        0.05, "SECONDS", "Longest wait for Redis in a query; then it goes on without.", values.number(float, 0.005, 5)
    )
    redis_timeout: float = _option(
        0.25, "SECONDS", "Give up the connection when Redis does not answer.", values.number(float, 0.01, 10)
    )
    max_flights: int = _option(1000, "N", "Questions each worker resolves at once.", values.number(int, 1, 100_000))
    max_waiting: int = _option(
        10_000, "N", "Clients waiting in each worker; more get SERVFAIL.", values.number(int, 1, 10**6)
    )
    max_client_waiting: int = _option(
        1000, "N", "Queries of one client prefix (/24, /56) that wait in each worker; more get SERVFAIL.",
        values.number(int, 1, 10**6),
    )  # fmt: skip
    max_outstanding: int = _option(
        2000, "N", "Most outstanding queries of each worker to one upstream; more go to another, or wait.",
        values.number(int, 1, 100_000),
    )  # fmt: skip
    udp_segments: bool = _option(
        True, "yes|no", "Send equally long replies to a client in one system call (UDP_SEGMENT, Linux).",
        values.switch, "yes",
    )  # fmt: skip
    tcp_idle: float = _option(10.0, "SECONDS", "Close idle TCP connections.", values.number(float, 0.1, 3600))
    tcp_connections: int = _option(
        1000, "N", "TCP connections each worker keeps; fewer where open files are limited.",
        values.number(int, 1, 100_000),
    )  # fmt: skip
    hang_time: float = _option(
        5.0, "SECONDS", "Replace a worker that has hung for this long, at least 1; 0: never.",
        values.number(float, 0, 3600),
    )  # fmt: skip
    linger: float = _option(
        0.0, "SECONDS", "On SIGTERM, keep serving for this long while telling balancers to go elsewhere.",
        values.number(float, 0, 60), "0",
    )  # fmt: skip
    drain: float = _option(
        5.0, "SECONDS", "On SIGTERM, finish what is in flight within this.", values.number(float, 0, 300)
    )
    warm: int = _option(1000, "N", "Load this many hot names before being ready.", values.number(int, 0, 1000))
    warm_time: float = _option(5.0, "SECONDS", "Be ready after this at the latest.", values.number(float, 0, 300))
    trace: bool = _option(
        True, "yes|no", "Tell where an answer came from when asked (query --trace).", values.switch, "yes"
    )
    log_level: str = _option(
        "info", "LEVEL", "debug, info, warning or error.", values.one_of("debug", "info", "warning", "error"),
        own=True,
    )  # fmt: skip
    log_format: str = _option(
        "text", "text|json", "Log format: text, or one JSON object per line.", values.one_of("text", "json"), own=True,
    )  # fmt: skip
    log_queries: int = _option(0, "N", "Log one of N queries; 0 logs none.", values.number(int, 0, 10**9), own=True)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every server that may be asked, once."""
        others = (each for _, servers in self.others for each in servers)
        return tuple({each.url: each for each in (*self.upstream, *others)}.values())

    @property
    def others(self) -> tuple[tuple[str, tuple[Endpoint, ...]], ...]:
        """The servers of zones and views, by their owner."""
        found = [(f"zone {zone.names[0]}", zone.upstream) for zone in self.zone]
        for view in self.view:
            own = dict(view.settings)
            found.append((f"view {view.name}", own.get("upstream", ())))
            found += [(f"view {view.name}, zone {zone.names[0]}", zone.upstream) for zone in own.get("zone", ())]
        return tuple(found)

    @property
    def longest_deadline(self) -> float:
        """The upstream deadline of the zone that has the longest."""
        zones = (zone for config in (self, *map(self.inside_view, self.view)) for zone in config.zone)
        settings = (setting for zone in zones for setting in zone.settings)
        own: list[float] = [value for name, value in settings if name == "upstream_deadline"]
        return max([self.upstream_deadline, *own])

    def inside(self, zone: Zone) -> Config:
        """The configuration that applies inside a zone."""
        upstream = self.upstream if zone.word == USUAL else zone.upstream
        return replace(self, upstream=upstream, **dict(zone.settings))

    def inside_view(self, view: View) -> Config:
        """The configuration that applies in a view."""
        return replace(self, view=(), **dict(view.settings))


Options = tuple[Field[Any], ...]


def options() -> Options:
    return fields(Config)


def _setting(name: str, raw: Any) -> Any:
    """The value of an option, from a zone's setting for it."""
    option = next(each for each in options() if each.name == name)
    return option.metadata["parse"](raw)


Warn = Callable[[str], None]


def load(
    file: str | None, given: Mapping[str, Any], environ: Mapping[str, str], warn: Warn = lambda text: None
) -> Config:
    """The configuration, checked as a whole. `given` holds the command line's values by field name.

    `warn` gets a sentence about everything that is ignored. Raises ConfigError with one sentence.
    """
    known = {toml_name(option) for option in options()}
    for text in strange_variables(environ, set(map(env_name, options()))):
        warn(text)
    values: dict[str, Any] = {}
    table = read_toml(file, known, TABLES) if file else {}
    for option in options():
        sources = (
            (flag_name(option), given.get(option.name)),
            (env_name(option), environ.get(env_name(option)) or None),
            (f"{toml_name(option)} in {file}", table.get(toml_name(option))),
        )
        for where, raw in sources:
            if raw is not None and raw != ():
                try:
                    values[option.name] = option.metadata["parse"](raw)
                except ValueError as error:
                    raise ConfigError(f"{where}: {error}") from None
                break
    return _complete(Config(**values), warn)


def _complete(config: Config, warn: Warn) -> Config:
    """Fill in what depends on the machine, and refuse contradictions."""
    upstream = forwards.find(config.upstream, config.upstream_file, RESOLV_CONF, config.listen, warn)
    forwards.check_others(config.others, upstream, config.listen)
    port = config.listen[0].port
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip(".")[:50] or "node"
    node_id = config.node_id or (host if port == DNS_PORT else f"{host}-{port}")
    config = replace(config, upstream=upstream, workers=config.workers or cpus(), node_id=node_id)
    contradictions.refuse(config)
    for text in views.shut_out(config.view, config.allow):
        warn(text)
    return config
