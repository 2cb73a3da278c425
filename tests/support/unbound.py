"""Debian's unbound as an upstream over every transport it has: it answers each name below `test.` with 192.0.2.1."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.rcode
import pytest

from .certificates import Authority
from .messages import ask
from .ports import free_port
from .waiting import wait_for

needs_unbound = pytest.mark.skipif(not shutil.which("unbound", path="/usr/sbin"), reason="no unbound")

CONFIG = """server:
 interface: 127.0.0.1@{plain}
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


@dataclass(frozen=True)
class Unbound:
    """Its ports, for UDP and TCP, TLS, and HTTPS; and the file of who has signed its certificate."""

    plain: int
    tls: int
    https: int
    ca: Path

    def url(self, scheme: str) -> str:
        """As an upstream: it has to be dns.example."""
        if scheme in ("udp", "tcp"):
            return f"{scheme}://127.0.0.1:{self.plain}"
        port, path = (self.tls, "") if scheme == "tls" else (self.https, "/dns-query")
        return f"{scheme}://127.0.0.1:{port}{path}?ca={self.ca}#dns.example"


@contextmanager
def unbound(folder: Path, name: str = "dns.example", days: int = 2) -> Iterator[Unbound]:
    """A server with a certificate for `name` that is over in `days`."""
    authority = Authority(folder)
    made = authority.sign(name, days=days)
    found = Unbound(free_port(), free_port(), free_port(), authority.file)
    file = folder / "unbound.conf"
    ports = {"plain": found.plain, "tls": found.tls, "https": found.https}
    file.write_text(CONFIG.format(**ports, key=made.key, certificate=made.certificate))
    server = subprocess.Popen(["/usr/sbin/unbound", "-c", file])
    try:
        wait_for(lambda: _answers(found.plain))
        yield found
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


def _answers(port: int) -> bool:
    try:
        return ask(port, "up.test", timeout=0.2).rcode() == dns.rcode.NOERROR
    except (OSError, dns.exception.DNSException):
        return False
