"""The memory of entries in Redis: `python -m bench.redis_memory`.

A node fills Redis with answers of common shapes; the memory used is read from Redis, for each key and in all.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from dnslib import RCODE, RR, DNSRecord

from bench.system import free_port, wait_for
from rdnscache.node.embedded import find_server

#: Names of each shape; digits give them a typical length.
NAMES = 100
#: Copies of one entry of each shape, so that what Redis needs for itself does not matter.
COPIES = 7000
#: Delay of the upstream in seconds: nothing would be stored if it answered before Redis.
DELAY = 0.02
SECRET = "1:0123456789abcdef0123456789abcdef"
_SOA = "{zone} 900 IN SOA ns1.{zone} hostmaster.{zone} 2026112701 7200 900 1209600 900"
_SPF = '"v=spf1 include:_spf.mail.example include:spf.protection.example ip4:192.0.2.0/24 ip4:198.51.100.0/24 -all"'
#: By the first label of a name: type, RCODE, answer section, authority section.
SHAPES: dict[str, tuple[str, str, str, str]] = {
    "one-address": ("A", "NOERROR", "{name} 300 IN A 192.0.2.1", ""),
    "four-addresses": ("A", "NOERROR", "\n".join(f"{{name}} 60 IN A 192.0.2.{each}" for each in range(1, 5)), ""),
    "delivered": (
        "A", "NOERROR",
        "{name} 300 IN CNAME {name}edge.cdn.example.\n{name}edge.cdn.example. 3600 IN CNAME e1234.d.cdn.example.\n"
        "e1234.d.cdn.example. 20 IN A 192.0.2.1\ne1234.d.cdn.example. 20 IN A 192.0.2.2",
        "",
    ),
    "six": ("AAAA", "NOERROR", "{name} 300 IN AAAA 2001:db8::1\n{name} 300 IN AAAA 2001:db8::2", ""),
    "no-six": ("AAAA", "NOERROR", "", _SOA),
    "no-https": ("HTTPS", "NOERROR", "", _SOA),
    "nothing": ("A", "NXDOMAIN", "", _SOA),
    "mail": (
        "MX", "NOERROR", "\n".join(f"{{name}} 3600 IN MX {each}0 mx{each}.mail.example." for each in range(1, 6)), "",
    ),
    "policy": ("TXT", "NOERROR", f"{{name}} 3600 IN TXT {_SPF}", ""),
}  # fmt: skip


def reply_to(data: bytes) -> bytes:
    query = DNSRecord.parse(data)
    name = str(query.q.qname)
    _, rcode, answers, authority = SHAPES[name.partition(".")[0]]
    reply = query.reply(ra=1)
    reply.header.rcode = getattr(RCODE, rcode)
    told = {"name": name, "zone": name.partition(".")[2]}
    for record in RR.fromZone(answers.format(**told)) if answers else ():
        reply.add_answer(record)
    for record in RR.fromZone(authority.format(**told)) if authority else ():
        reply.add_auth(record)
    return bytes(reply.pack())


def serve(sock: socket.socket) -> None:
    while True:
        data, client = sock.recvfrom(4096)
        time.sleep(DELAY)
        sock.sendto(reply_to(data), client)


@contextmanager
def running(*words: str) -> Iterator[None]:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def measure(listpack: int, secret: bool, upstream: str) -> dict[str, float]:
    """Octets of an entry by shape, and the growth of Redis for each entry."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "redis.sock")
        server = (str(find_server()), "--unixsocket", path, "--port", "0", "--save", "", "--dir", folder,
                  "--hash-max-listpack-value", str(listpack))  # fmt: skip
        node = (sys.executable, "-m", "rdnscache", "serve", "--listen", f"127.0.0.1:{port}", "--upstream", upstream,
                "--redis", f"unix://{path}", "--redis-budget", "1", "--redis-timeout", "5", "--workers", "1",
                *(("--secret", SECRET) if secret else ()))  # fmt: skip
        with running(*server):
            client: Any = redis.Redis(unix_socket_path=path)
            wait_for(lambda: os.path.exists(path) and client.ping(), 10, "no Redis")
            with running(*node):
                wait_for(lambda: _asked(port, "one-address.warm.example.") and client.dbsize() > 2, 20, "no node")
                for shape in SHAPES:
                    for number in range(NAMES):
                        _asked(port, f"{shape}.zone{number:05}.example.", SHAPES[shape][0])
            keys = {shape: list(client.scan_iter(f"rdns:1:{{{shape}.zone*", count=5000)) for shape in SHAPES}
            if few := [shape for shape, held in keys.items() if len(held) < NAMES / 2]:
                raise SystemExit(f"too few answers of {', '.join(few)} are in Redis: this machine is too busy")
            found = {shape: sum(map(client.memory_usage, held)) / len(held) for shape, held in keys.items()}
            return found | {"in all": _grown(client, [held[0] for held in keys.values()])}


def _grown(client: Any, keys: list[bytes]) -> float:
    """The growth of Redis for each of many copies of the entries under other names."""
    before = client.info("memory")["used_memory"]
    for key in keys:
        dump, left = client.dump(key), client.pttl(key)
        pipeline = client.pipeline(transaction=False)
        for number in range(COPIES):
            name = re.sub(rb"zone[0-9]{5}", b"zone%05d" % (10000 + number), key)
            pipeline.restore(name, left, dump)
        pipeline.execute()
    return float((client.info("memory")["used_memory"] - before) / (len(keys) * COPIES))


def _asked(port: int, name: str, rtype: str = "A") -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(bytes(DNSRecord.question(name, rtype).pack()))
            return len(sock.recv(4096)) > 12
        except OSError:
            return False


def main() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(sock,), daemon=True).start()
    upstream = f"127.0.0.1:{sock.getsockname()[1]}"
    variants = {"2048": (2048, False), "2048, secret": (2048, True), "64": (64, False), "64, secret": (64, True)}
    columns = {name: measure(*variant, upstream) for name, variant in variants.items()}
    print("| hash-max-listpack-value |", " | ".join(columns), "|")
    for row in (*SHAPES, "in all"):
        kind = f" {SHAPES[row][0]}" if row in SHAPES else ""
        print(f"| {row}{kind} |", " | ".join(f"{column[row]:.0f}" for column in columns.values()), "|")


if __name__ == "__main__":
    main()
