"""Debian's unbound, Knot Resolver and dnsdist as upstreams: each name below `test.` is 192.0.2.1, over UDP, TCP, TLS
and HTTPS."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .certificates import Authority
from .messages import rcode_of
from .ports import free_port
from .waiting import wait_for

WHERE = "/usr/sbin:/usr/bin"
needs_unbound = pytest.mark.skipif(not shutil.which("unbound", path=WHERE), reason="no unbound")

UNBOUND = """server:
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
KRESD = """net.listen('127.0.0.1', {plain}, {{ kind = 'dns' }})
net.listen('127.0.0.1', {tls}, {{ kind = 'tls' }})
net.listen('127.0.0.1', {https}, {{ kind = 'doh2' }})
net.tls('{certificate}', '{key}')
trust_anchors.remove('.')
modules.load('policy')
policy.add(policy.suffix(
    policy.ANSWER({{ [kres.type.A] = {{ rdata = kres.str2ip('192.0.2.1'), ttl = 300 }} }}), {{ todname('test.') }}))
"""
DNSDIST = """setLocal('127.0.0.1:{plain}')
addTLSLocal('127.0.0.1:{tls}', '{certificate}', '{key}')
addDOHLocal('127.0.0.1:{https}', '{certificate}', '{key}', '/dns-query')
setSecurityPollSuffix('')
addAction(AllRule(), SpoofAction('192.0.2.1'))
"""
#: By the name of the program: its configuration, and how it is run with a file of it in its folder.
PROGRAMS: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "unbound": (UNBOUND, lambda file: ["-d", "-c", str(file)]),
    "kresd": (KRESD, lambda file: ["-n", "-c", str(file), str(file.parent)]),
    "dnsdist": (DNSDIST, lambda file: ["--supervised", "--disable-syslog", "-C", str(file)]),
}
PEERS = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name, path=WHERE), reason=f"no {name}"))
    for name in PROGRAMS
]


@dataclass(frozen=True)
class Peer:
    """Its ports for UDP and TCP, TLS, and HTTPS; and the file of the CA of its certificate."""

    plain: int
    tls: int
    https: int
    ca: Path

    def url(self, scheme: str) -> str:
        """Its URL as an upstream with the name dns.example."""
        if scheme in ("udp", "tcp"):
            return f"{scheme}://127.0.0.1:{self.plain}"
        port, path = (self.tls, "") if scheme == "tls" else (self.https, "/dns-query")
        return f"{scheme}://127.0.0.1:{port}{path}?ca={self.ca}#dns.example"


@contextmanager
def peer(
    program: str, folder: Path, *names: str, days: int = 2, alone: bool = False, configuration: str = ""
) -> Iterator[Peer]:
    """A server with a certificate for dns.example, or for `names`, which expires in `days`, or is self-signed."""
    authority = Authority(folder)
    made = authority.sign(*names or ("dns.example",), days=days, alone=alone)
    found = Peer(free_port(), free_port(), free_port(), authority.file)
    text, arguments = PROGRAMS[program]
    file = folder / f"{program}.conf"
    ports = {"plain": found.plain, "tls": found.tls, "https": found.https}
    file.write_text((configuration or text).format(**ports, key=made.key, certificate=made.certificate))
    where = shutil.which(program, path=WHERE)
    assert where is not None
    with (folder / f"{program}.log").open("wb") as log:
        server = subprocess.Popen([where, *arguments(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for(lambda: rcode_of(found.plain, "up.test") == "NOERROR", 15)
        yield found
    except AssertionError:
        print((folder / f"{program}.log").read_text())
        raise
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:  # kresd may wait for itself
            server.kill()
            server.wait()
