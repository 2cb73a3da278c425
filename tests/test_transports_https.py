"""Queries over HTTPS to real servers: many on one connection; what is no answer is said."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import Asked, all_ended, answered, free_port, wait_for
from support.certificates import Authority

from rdnscache.address import Address
from rdnscache.errors import SAID
from rdnscache.upstream.certificates import Identity, context
from rdnscache.upstream.connection import Limits
from rdnscache.upstream.pool import Pool
from rdnscache.upstream.tls import Secured
from rdnscache.upstream.transports import over_https, over_tls

pytestmark = [pytest.mark.once, pytest.mark.skipif(not shutil.which("unbound", path="/usr/sbin"), reason="no unbound")]

CONFIG = """server:
 interface: 127.0.0.1@{tls}
 interface: 127.0.0.1@{https}
 tls-port: {tls}
 https-port: {https}
 tls-service-key: {key}
 tls-service-pem: {certificate}
 http-endpoint: /dns-query
 num-threads: 1
 do-daemonize: no
 username: ""
 chroot: ""
 pidfile: ""
 use-syslog: no
 local-zone: "test." redirect
 local-data: "test. 300 IN A 192.0.2.1"
remote-control:
 control-enable: no
"""


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@contextmanager
def unbound(folder: Path) -> Iterator[tuple[int, int, Secured]]:
    """Its ports for TLS and HTTPS, and who it is."""
    authority, tls, https = Authority(folder), free_port(), free_port()
    made = authority.sign("dns.example")
    file = folder / "unbound.conf"
    file.write_text(CONFIG.format(tls=tls, https=https, key=made.key, certificate=made.certificate))
    server = subprocess.Popen(["/usr/sbin/unbound", "-c", file])
    identity = Identity("dns.example", ca=str(authority.file))
    try:
        wait_for(lambda: _listens(https) and _listens(tls))
        yield tls, https, Secured(identity, context(identity, "h2"), "h2")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


def _ask(pool: Pool, count: int) -> list[Asked]:
    queries = [Asked(f"n{number}") for number in range(count)]
    for query in queries:
        pool.send(query)
    all_ended(queries, 10)
    return queries


def test_unbound_answers_over_https(tmp_path: Path) -> None:
    """A thousand queries, more than it takes at a time, over few connections; another path is no answer."""
    with unbound(tmp_path) as (_, https, secured):
        pool = over_https(Address("127.0.0.1", https), secured, ("dns.example", "/dns-query"), Limits())
        for _ in range(5):
            assert answered(_ask(pool, 200))
        assert pool.openings <= 2
        pool.close()
        pool = over_https(Address("127.0.0.1", https), secured, ("dns.example", "/other"), Limits())
        (query,) = _ask(pool, 1)
        assert query.why == SAID
        assert "HTTP status 404" in str(query.failure)
        pool.close()


def test_unbound_answers_over_tls(tmp_path: Path) -> None:
    """As many at a time as it likes."""
    with unbound(tmp_path) as (tls, _, known):
        secured = Secured(known.identity, context(known.identity, "dot"))
        pool = over_tls(Address("127.0.0.1", tls), secured, Limits())
        assert answered(_ask(pool, 500))
        pool.close()
