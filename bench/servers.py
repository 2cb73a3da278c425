"""The servers: how each is configured and run. All forward to the same nsd, cache, and use one thread.

None logs queries, validates DNSSEC, limits rates or changes socket buffers; all have a cache of CACHE entries unless a
row sets another size. dnsmasq warns of a cache above 10,000 entries; with its default size the rows of cold names would
measure its eviction (four times the CPU). It also closes a TCP connection after 100 queries, which dnsperf counts as
losses. dnsdist is a packet cache in front of nsd, not a resolver.
CoreDNS is in no Debian package; it takes part where `coredns` is on the PATH. So does unbound with cachedb, where the
`unbound` on the PATH was built with `--enable-cachedb --with-libhiredis`; Debian's is not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.system import BenchError, output

CACHE = 300_000
HERE = "127.0.0.1"


@dataclass(frozen=True)
class Reach:
    """How the upstream is reached; over TLS it has a certificate for `name`, which is in the file `ca`."""

    scheme: str = "udp"
    ca: str = ""
    name: str = ""
    path: str = ""

    @property
    def encrypted(self) -> bool:
        return self.scheme not in ("udp", "tcp")


PLAIN = Reach()


@dataclass(frozen=True)
class Setting:
    """The settings of one run of a server."""

    folder: Path
    port: int
    upstream: int  # port of the upstream
    entries: int = 0  # size of the cache; 0: the default of the rows
    args: tuple[str, ...] = ()  # more options, for rdnscache
    upstreams: tuple[str, ...] = ()  # addresses, instead of the one
    reach: Reach = PLAIN

    def forward_to(self) -> tuple[str, ...]:
        return self.upstreams or (f"{HERE}:{self.upstream}",)


@dataclass(frozen=True)
class Kind:
    """A kind of server."""

    name: str
    program: str
    package: str
    version: tuple[str, ...]
    command: Callable[[Setting], list[str]]
    env: tuple[tuple[str, str], ...] = ()
    #: The upstream transports it has besides UDP.
    transports: tuple[str, ...] = ()

    def present(self) -> bool:
        return shutil.which(self.program) is not None


def write_file(setting: Setting, name: str, text: str) -> str:
    path = setting.folder / name
    path.write_text(text)
    return str(path)


def nsd(setting: Setting) -> list[str]:
    """The authoritative upstream: every name below `bench.` has the address 192.0.2.1 with a TTL of an hour."""
    soa = "@ 3600 IN SOA ns admin 1 3600 600 86400 60\n@ IN NS ns\nns IN A 192.0.2.53\n"
    write_file(setting, "zone", f"$ORIGIN bench.\n$TTL 3600\n{soa}* IN A 192.0.2.1\n")
    conf = f"""server:
  ip-address: {HERE}@{setting.port}
  server-count: 1
  username: ""
  chroot: ""
  pidfile: ""
  database: ""
  zonesdir: {setting.folder}
  xfrdfile: {setting.folder}/xfrd
  zonelistfile: {setting.folder}/zonelist
  xfrdir: {setting.folder}
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: bench.
  zonefile: zone
"""
    return ["nsd", "-d", "-c", write_file(setting, "nsd.conf", conf)]


def redis_server(setting: Setting) -> list[str]:
    """A Redis without persistence, configured as docs/redis.md recommends."""
    options = {
        "port": str(setting.port), "bind": HERE, "dir": str(setting.folder), "save": "", "appendonly": "no",
        "hash-max-listpack-value": "2048", "protected-mode": "no",
    }  # fmt: skip
    return ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", value))]


def compile_echo(folder: Path) -> Path:
    """Compile echo.c; returns the path of the program."""
    binary = folder / "echo"
    source = Path(__file__).with_name("echo.c")
    done = subprocess.run(["cc", "-O2", "-o", binary, source], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"echo.c does not compile: {done.stderr.strip()}")
    return binary


def _echo(setting: Setting) -> list[str]:
    return [str(compile_echo(setting.folder)), str(setting.port)]


def _rdnscache(setting: Setting) -> list[str]:
    args = setting.args if "--redis" in setting.args else ("--redis", "none", *setting.args)
    args = args if "--workers" in args else ("--workers", "1", *args)
    if "--l1-entries" not in args:
        args = ("--l1-entries", str(setting.entries or CACHE), "--l1-memory", "4gb", *args)
    if "--upstream" not in args:
        args = (*(part for each in setting.forward_to() for part in ("--upstream", each)), *args)
    listen = ("--listen", f"{HERE}:{setting.port}", "--log-level", "warning", "--drain", "0.1")
    return [sys.executable, "-m", "rdnscache", "serve", *listen, *args]


def _unbound(setting: Setting) -> list[str]:
    reach = setting.reach
    name = f"#{reach.name}" if reach.encrypted else ""
    forward = "\n".join(f"  forward-addr: {each.replace(':', '@')}{name}" for each in setting.forward_to())
    if reach.encrypted:
        forward += "\n  forward-tls-upstream: yes"
    elif reach.scheme == "tcp":
        forward += "\n  forward-tcp-upstream: yes"
    bundle = f'  tls-cert-bundle: "{reach.ca}"\n' if reach.encrypted else ""
    modules, shared = "iterator", ""
    if "--redis" in setting.args:
        port = setting.args[setting.args.index("--redis") + 1].rpartition(":")[2]
        modules = "cachedb iterator"
        shared = f'cachedb:\n  backend: "redis"\n  redis-server-host: {HERE}\n  redis-server-port: {port}\n'
    conf = f"""server:
  interface: {HERE}@{setting.port}
  access-control: 127.0.0.0/8 allow
  num-threads: 1
  module-config: "{modules}"
  do-not-query-localhost: no
  do-daemonize: no
  use-syslog: no
  verbosity: 0
  username: ""
  chroot: ""
  pidfile: ""
  directory: {setting.folder}
  msg-cache-size: 256m
  rrset-cache-size: 256m
{bundle}remote-control:
  control-enable: no
{shared}forward-zone:
  name: "."
{forward}
"""
    return ["unbound", "-d", "-c", write_file(setting, "unbound.conf", conf)]


def _dnsmasq(setting: Setting) -> list[str]:
    return [
        "dnsmasq", "-k", "-C", "/dev/null", "--user=", "--pid-file=", "--log-facility=-", "--no-resolv", "--no-hosts",
        f"--server={HERE}#{setting.upstream}", f"--port={setting.port}", f"--listen-address={HERE}",
        "--bind-interfaces",
        f"--cache-size={setting.entries or CACHE}", "--dns-forward-max=1000",
    ]  # fmt: skip


def _kresd(setting: Setting) -> list[str]:
    conf = f"""net.listen('{HERE}', {setting.port}, {{ kind = 'dns' }})
trust_anchors.remove('.')
cache.size = 512 * MB
policy.add(policy.all(policy.FORWARD('{HERE}@{setting.upstream}')))
"""
    return ["kresd", "-n", "-c", write_file(setting, "kresd.conf", conf), str(setting.folder)]


def _recursor(setting: Setting) -> list[str]:
    entries = setting.entries or CACHE
    options = {
        "config-dir": setting.folder, "socket-dir": setting.folder, "daemon": "no", "write-pid": "no",
        "local-address": HERE, "local-port": setting.port, "forward-zones": f"bench={HERE}:{setting.upstream}",
        "threads": 1, "dnssec": "off", "quiet": "yes", "loglevel": 0, "disable-syslog": "yes", "dont-query": "",
        "max-cache-entries": entries, "max-packetcache-entries": entries, "hint-file": "no", "security-poll-suffix": "",
    }  # fmt: skip
    return ["pdns_recursor", *(f"--{name}={value}" for name, value in options.items())]


def _dnsdist(setting: Setting) -> list[str]:
    reach = setting.reach
    how = ", tcpOnly=true" if reach.scheme == "tcp" else ""
    if reach.encrypted:
        how = f", tls='openssl', caStore='{reach.ca}', subjectName='{reach.name}', validateCertificates=true"
    if reach.scheme == "https":
        how += f", dohPath='{reach.path}'"
    servers = "\n".join(f"newServer({{address='{each}', checkName='up.bench.'{how}}})" for each in setting.forward_to())
    conf = f"""setLocal('{HERE}:{setting.port}')
setACL({{'127.0.0.0/8'}})
setSecurityPollSuffix('')
{servers}
getPool(''):setCache(newPacketCache({setting.entries or CACHE}))
"""
    return ["dnsdist", "--supervised", "--disable-syslog", "-C", write_file(setting, "dnsdist.conf", conf)]


def _coredns(setting: Setting) -> list[str]:
    reach = setting.reach
    scheme, how = ("tls://", f"\n    tls {reach.ca}\n    tls_servername {reach.name}") if reach.encrypted else ("", "")
    how = "\n    force_tcp" if reach.scheme == "tcp" else how
    conf = f""".:{setting.port} {{
  bind {HERE}
  cache 3600 {{
    success {setting.entries or CACHE}
  }}
  forward . {" ".join(scheme + each for each in setting.forward_to())} {{
    max_concurrent 0{how}
  }}
}}
"""
    return ["coredns", "-quiet", "-conf", write_file(setting, "Corefile", conf)]


RDNSCACHE = Kind("rdnscache", sys.executable, "", (sys.executable, "-m", "rdnscache", "--version"), _rdnscache)
PURE = Kind("rdnscache (pure)", sys.executable, "", RDNSCACHE.version, _rdnscache, (("RDNSCACHE_PURE", "1"),))
ECHO = Kind("echo", "cc", "gcc", ("cc", "--version"), _echo)
PEERS = (
    Kind("unbound", "unbound", "unbound", ("unbound", "-V"), _unbound, transports=("tcp", "tls")),
    Kind("dnsmasq", "dnsmasq", "dnsmasq-base", ("dnsmasq", "-v"), _dnsmasq),
    Kind("kresd", "kresd", "knot-resolver", ("kresd", "-V"), _kresd),
    Kind("recursor", "pdns_recursor", "pdns-recursor", ("pdns_recursor", "--version"), _recursor),
    Kind("dnsdist", "dnsdist", "dnsdist", ("dnsdist", "--version"), _dnsdist, transports=("tcp", "tls", "https")),
    Kind("coredns", "coredns", "none", ("coredns", "-version"), _coredns, (("GOMAXPROCS", "1"),), ("tcp", "tls")),
)
KINDS = (ECHO, RDNSCACHE, PURE, *PEERS)
OURS = (RDNSCACHE, PURE)
#: Has no cache in Redis unless its build has: ask `shares`.
CACHEDB = Kind("unbound + cachedb", "unbound", "none", ("unbound", "-V"), _unbound)
NSD = Kind("nsd", "nsd", "nsd", ("nsd", "-v"), nsd)
REDIS = Kind("redis", "redis-server", "redis-server", ("redis-server", "--version"), redis_server)
DNSPERF = Kind("dnsperf", "dnsperf", "dnsperf", ("dnsperf", "-h"), nsd)  # for its version only


def shares(kind: Kind) -> bool:
    """Whether it can be used with Redis."""
    return kind in OURS or (
        kind is CACHEDB and kind.present() and "cachedb" in output(["unbound", "-V"], dict(os.environ))
    )


def environment(kind: Kind) -> dict[str, str]:
    """This process's environment without rdnscache's variables, and with those of the kind."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RDNSCACHE_")}
    return env | dict(kind.env)


def version(kind: Kind) -> str:
    """The version of a program; for rdnscache the whole line, which also says whether it is compiled."""
    said = output(list(kind.version), environment(kind))
    if kind in OURS:
        return said
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else "not here"
