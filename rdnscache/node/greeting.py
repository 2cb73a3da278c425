"""What a node prints on the terminal when it starts."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from rdnscache.address import Address
from rdnscache.config import Config
from rdnscache.kernel import first_free_port
from rdnscache.redis_url import SERVER, mask, parse

log = logging.getLogger(__name__)

#: Most zones listed by name.
ZONES_SHOWN = 5


def greet(config: Config, bound: list[Address], admin_port: int, redis_url: str | None, path: Path | None) -> None:
    """A summary for the person at the terminal: what runs here, and what to try."""
    first = bound[0]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(first.host, first.host)
    workers = f"{config.workers} worker{'' if config.workers == 1 else 's'}"
    print(f"rdnscache node {config.node_id}: {workers} on {', '.join(map(str, bound))} (UDP and TCP)")
    print(f"  upstreams   {', '.join(each.label for each in config.upstream)}")
    if config.zone:
        print(f"  zones       {_zones_text(config)}")
    print(f"  Redis       {_redis_text(config, redis_url)}")
    if config.admin:
        print(f"  admin       http://{Address(config.admin.host, admin_port)}/  ({_admin_text(config.admin, config)})")
    print(f"  try         dig @{host} -p {first.port} example.com")
    if path is not None:
        print(f"              redis-cli -s {path} --scan")
    elif redis_url and _for_redis_cli(redis_url):
        where = redis_url.removeprefix("unix://")
        print(f"              redis-cli {'-u' if where == redis_url else '-s'} {where} --scan")
    sys.stdout.flush()


def _admin_text(admin: Address, config: Config) -> str:
    """What the admin port serves, and to whom."""
    if config.admin_read_token:
        return "a live page, /metrics: with a token; /readyz"
    return "a live page; /metrics, /readyz" + ("" if admin.loopback else ": anybody who can connect may read")


def _zones_text(config: Config) -> str:
    """The first zones, and how many more there are."""
    names = [f"{each.names[0]} ({each.word or len(each.upstream)})" for each in config.zone[:ZONES_SHOWN]]
    more = len(config.zone) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _redis_text(config: Config, url: str | None) -> str:
    """Where the shared cache is, in words."""
    if url is None:
        return "none: each worker caches alone"
    return f"{mask(url)} (embedded)" if config.redis == "embedded" else mask(url)


def _for_redis_cli(url: str) -> bool:
    """Whether redis-cli understands the URL, and it contains nothing secret."""
    return parse(url).kind == SERVER and not set("@?") & set(url)


def warn_of_root(config: Config) -> None:
    """A warning when running as root without need: only listening on a privileged port would require it."""
    first = first_free_port()
    ports = [address.port for address in (*config.listen, *([config.admin] if config.admin else []))]
    if os.geteuid() == 0 and all(port == 0 or port >= first for port in ports):
        log.warning("running as root, which is not needed: run it as its own unprivileged user")


def where(config: Config) -> str:
    """The addresses a node listens on, as text."""
    addresses = config.listen + ((config.admin,) if config.admin else ())
    return ", ".join(map(str, addresses))
