"""Misses by transport, and hits beside handshakes. The upstream is unbound, which answers all names below `bench.` over
UDP, TCP, TLS and HTTPS, or a small QUIC server; that one is slow, so for QUIC only our own CPU is of interest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import load
from bench.lab import Figures, Lab, Server
from bench.rows import HIT_RATE, MISS_RATE, Case, Row
from bench.servers import HERE, OURS, Kind, Reach
from bench.system import Program, free_port, wait_for
from bench.tools import counters

NAME = "dns.bench"
SCHEMES = ("udp", "tcp", "tls", "https", "quic", "h3")
#: Handshakes a second beside the hits: an upstream over TLS that closes after each answer.
HANDSHAKES = 200

CONFIG = """server:
 interface: {here}@{plain}
 interface: {here}@{tls}
 interface: {here}@{https}
 tls-port: {tls}
 https-port: {https}
 tls-service-key: {key}
 tls-service-pem: {certificate}
 http-endpoint: /dns-query
 incoming-num-tcp: 100
 num-threads: 1
 do-daemonize: no
 username: ""
 chroot: ""
 pidfile: ""
 use-syslog: no
 verbosity: 0
 local-zone: "bench." redirect
 local-data: "bench. 3600 IN A 192.0.2.1"
remote-control:
 control-enable: no
"""


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for NAME, and its key."""
    made, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
               "-keyout", str(key), "-out", str(made)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@contextmanager
def upstream(lab: Lab, scheme: str) -> Iterator[tuple[int, Reach]]:
    """Run an upstream on the CPU of the load; yields its port and how it is reached."""
    folder = lab.folder / f"upstream-{free_port()}"
    folder.mkdir()
    made, key = certificate(folder)
    plain, tls, https = free_port(), free_port(), free_port()
    if scheme in ("quic", "h3"):
        command = [sys.executable, "-m", "bench.quic_upstream", scheme, str(tls), str(made), str(key)]
    else:
        text = CONFIG.format(here=HERE, plain=plain, tls=tls, https=https, key=key, certificate=made)
        (folder / "unbound.conf").write_text(text)
        command = ["unbound", "-d", "-c", str(folder / "unbound.conf")]
    ports = {"udp": plain, "tcp": plain, "tls": tls, "https": https, "quic": tls, "h3": tls}
    path = "/dns-query" if scheme in ("https", "h3") else ""
    with Program("the upstream", command, folder, lab.load_cpu) as program:
        if scheme not in ("quic", "h3"):
            wait_for(lambda: program.check() or load.answers(plain), 20, "unbound does not answer")
        yield ports[scheme], Reach(scheme, str(made), NAME, path)


def measure_transport(lab: Lab, kind: Kind, scheme: str) -> Figures:
    part = 8 if scheme in ("quic", "h3") else 1  # a smaller load, since the server is slow
    admin = free_port()
    with upstream(lab, scheme) as (port, reach), _asking(lab, kind, port, reach, admin) as server:
        lab.warm(server, load.hot_names(100))
        figures = lab.cost(server, lab.write(load.cold_names(lab.scale.cold // part)), once=True)
        figures |= lab.latency(server, lab.write(load.cold_names(lab.scale.samples // 4)), MISS_RATE // part)
        figures["per_second"] = 1e6 / figures["cpu_us"]
        if kind in OURS:
            told = counters(admin)
            opened = [value for name, value in told.items() if name.startswith("rdnscache_upstream_connections_opened")]
            figures["connections"] = sum(opened)
        return figures


@contextmanager
def _asking(lab: Lab, kind: Kind, port: int, reach: Reach, admin: int) -> Iterator[Server]:
    """A server that forwards to that upstream."""
    args: tuple[str, ...] = ()
    if kind in OURS:
        parameters = f"?ca={reach.ca}#{reach.name}" if reach.encrypted else ""
        args = ("--upstream", f"{reach.scheme}://{HERE}:{port}{reach.path}{parameters}", "--admin", f"{HERE}:{admin}")
    with lab.run(kind, *args, upstream=port, reach=reach) as server:
        yield server


def measure_handshakes(lab: Lab, kind: Kind, cold: bool) -> Figures:
    """Hits beside a second load: of cold names, each of which opens a connection over TLS, or of hot names."""
    names, port = load.hot_names(), free_port()
    made, key = certificate(lab.folder)
    command = [sys.executable, "-m", "bench.closing_upstream", str(port), str(made), str(key)]
    with Program("the upstream", command, lab.folder, lab.load_cpu):
        zone = f"cold.bench=tls://{HERE}:{port}?ca={made}#{NAME}"
        with lab.run(kind, "--zone", zone) as server:
            lab.warm(server, names)
            hits = lab.write(load.shuffled(names * (lab.scale.samples // len(names))))
            seconds = lab.scale.samples / HIT_RATE + 2
            count = int(HANDSHAKES * seconds)
            others = [f"n{number}.cold.bench" for number in range(count)] if cold else (names * count)[:count]
            beside = load.start_dnsperf(server.port, lab.write(others), "-n", "1", "-Q", str(HANDSHAKES))
            figures = lab.latency(server, hits, HIT_RATE)
            run = load.finish(beside, seconds + 30)
            return figures | {"beside": run.rate, "failed": run.failed + run.lost}


def _transports(kinds: Sequence[Kind], _: bool) -> list[Case]:
    def way(scheme: str) -> Callable[[Lab, Kind], Figures]:
        return lambda lab, kind: measure_transport(lab, kind, scheme)

    cases = []
    for scheme in SCHEMES:
        cases += [Case(scheme, kind, way(scheme)) for kind in kinds if kind is OURS[0]]
        others = [kind for kind in kinds if kind.transports and scheme in ("udp", *kind.transports)]
        cases += [Case(f"{scheme}, {kind.name}", kind, way(scheme)) for kind in others]
    return cases


def _handshakes(kinds: Sequence[Kind], _: bool) -> list[Case]:
    def way(cold: bool) -> Callable[[Lab, Kind], Figures]:
        return lambda lab, kind: measure_handshakes(lab, kind, cold)

    cases = ((f"hits, {HANDSHAKES} more hits/s", False), (f"hits, {HANDSHAKES} handshakes/s", True))
    return [Case(label, OURS[0], way(cold)) for label, cold in cases if OURS[0] in kinds]


TRANSPORTS = [
    Row("transports", "cold names over each transport, CPU against plain UDP", _transports, grows=True),
    Row("handshakes", "hits while connections are opened", _handshakes, compared="p99_us", grows=True),
]
