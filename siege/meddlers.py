"""Attacks on a node by other ways than queries: Redis, the admin port, signals. Each returns what it saw."""

from __future__ import annotations

import ctypes
import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.load import query
from chaos.cluster import ROOT, wait_for
from siege.lab import Lab

Seen = dict[str, float]
#: Maximum seconds that a client waits.
PATIENCE = 8.0
MX = 15
#: Signals that steer a supervisor; blocked here, to see whether they arrive.
ORDERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
PR_SET_CHILD_SUBREAPER = 36


def ask(port: int, names: list[str]) -> dict[str, bytes]:
    """The replies to a question for each name, all asked at once over UDP."""
    found: dict[str, bytes] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        for ident, name in enumerate(names):
            sock.send(query(name, ident))
        ends = time.monotonic() + PATIENCE
        while len(found) < len(names) and select.select([sock], [], [], max(ends - time.monotonic(), 0))[0]:
            data = sock.recv(4096)
            found[names[int.from_bytes(data[:2], "big")]] = data
    return found


def good(replies: dict[str, bytes]) -> int:
    return sum(data[3] & 15 == 0 and data[6:8] != b"\0\0" for data in replies.values())


def ask_over_tcp(port: int, name: str, rtype: int = 1) -> float:
    """Octets of the answer; 0 without one."""
    message = query(name)[:-4] + rtype.to_bytes(2, "big") + b"\0\1"
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as sock, sock.makefile("rb") as stream:
            sock.settimeout(5)
            sock.sendall(len(message).to_bytes(2, "big") + message)
            size = int.from_bytes(stream.read(2), "big")
            data = stream.read(size)
            return size if len(data) == size and data[3] & 15 == 0 else 0
    except (OSError, IndexError):
        return 0


def connect_honestly(lab: Lab, seconds: float) -> Seen:
    """275 connections from another address, one after the other, each with a question for a hot name."""
    answered = sum(ask_over_tcp(lab.port, "g1.hot.fine.example") > 0 for _ in range(275))
    return {"asked over TCP": 275, "answered over TCP": answered}


def long_texts(lab: Lab, seconds: float) -> Seen:
    """Eight questions whose answers are pointers to one long name of odd octets."""
    names = [f"p{number}.text.test" for number in range(8)]
    answered = sum(ask_over_tcp(lab.port, name, MX) > 0 for name in names)
    time.sleep(0.5)
    with lab.redis() as client:
        keys = [f"rdns:1:{{{name}.}}:MX" for name in names]
        longest = max(int(client.hstrlen(key, "answer")) for key in keys)
        evicted = int(client.info("stats")["evicted_keys"])
    return {"asked": 8, "answered": answered, "longest text": longest, "evicted": evicted}


def admin_port(lab: Lab, seconds: float) -> Seen:
    """128 connections with half a request; a look-up of 7 KB; look-ups from other sites."""
    held = []
    for _ in range(128):
        try:
            sock = socket.create_connection(("127.0.0.1", lab.admin), 1)
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
            held.append(sock)
        except OSError:
            break
    seen = {"held": len(held), "healthy": 0.0, "asked": 0.0, "longest lookup": 0.0, "foreign": 0.0}
    ends = time.monotonic() + seconds
    odd = "%C3%A4" * 1200
    while time.monotonic() < ends:
        seen["asked"] += 1
        seen["healthy"] += _status(lab.admin, "/healthz", {}) == 200
        began = time.monotonic()
        _status(lab.admin, f"/api/lookup?name={odd}", {})
        seen["longest lookup"] = max(seen["longest lookup"], time.monotonic() - began)
        seen["foreign"] += _status(lab.admin, "/api/lookup?name=a.example", {"Sec-Fetch-Site": "cross-site"}) == 200
        time.sleep(0.2)
    for sock in held:
        sock.close()
    return seen


def _status(port: int, path: str, headers: dict[str, str]) -> int:
    """The status of an HTTP request; 0 if there is no answer within 1 s."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def noise(lab: Lab, seconds: float) -> Seen:
    """20 MB of invalid messages, and odd datagrams meanwhile."""
    attack = lab.attack("odd", seconds, 3000)
    with lab.redis() as client:
        junk = b"9-9 " + b"\xff{" * 10_000
        for _ in range(1000):
            client.publish("rdns:1:control", junk)
    attack.wait(seconds + 20)
    return {"log KB": len(lab.log()) / 1024}


def long_names(lab: Lab, seconds: float) -> Seen:
    """A flush of a name of 24 KB, and one among the hot ones."""
    name = "ä" * 12_000
    with lab.redis() as client:
        for _ in range(20):
            client.publish("rdns:1:control", f'9-9 {{"event": "flush", "name": "{name}"}}')
            client.zadd("rdns:1:hot", {f"{{{name}}}:A": 1e9})
            time.sleep(seconds / 30)
    return {}


def many_events(lab: Lab, seconds: float) -> Seen:
    """100,000 control events, one of 40 MB, and a lost connection; then a new name has to be stored."""
    with lab.redis() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(100_000):
            pipe.xadd("rdns:1:control", {"event": f'{{"event": "flush", "name": "n{number}.test."}}'})
            if number % 5000 == 4999:
                pipe.execute()
        client.config_set("maxmemory", 0)
        client.xadd("rdns:1:control", {"event": b"x" * (40 << 20)})
        attached = lab.said("attached to Redis")
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        ends = time.monotonic() + 10
        while time.monotonic() < ends and lab.said("attached to Redis") < attached + len(lab.workers()):
            time.sleep(0.1)
        ask(lab.port, ["g-after.events.test"])
        time.sleep(0.3)
        return {"stored": int(client.exists("rdns:1:{g-after.events.test.}:A"))}


def held_claims(lab: Lab, seconds: float) -> Seen:
    """Hold the claims of 20 names without a leader, renewed every 0.15 s, and ask for the names."""
    names = [f"g{number}-{time.monotonic_ns()}.claims.test" for number in range(20)]
    over = threading.Event()

    def hold() -> None:
        with lab.redis() as client:
            while not over.wait(0.15):
                pipe = client.pipeline(transaction=False)
                for name in names:
                    pipe.set(f"rdns:1:{{{name}.}}:A#lead", "nobody", px=1500)
                pipe.execute()

    thread = threading.Thread(target=hold)
    thread.start()
    time.sleep(0.3)
    try:
        return {"asked": len(names), "answered": good(ask(lab.port, names))}
    finally:
        over.set()
        thread.join()


class Hostile:
    """A server in place of Redis that sends the same reply to everything."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer_all, args=(sock,), daemon=True).start()

    def _answer_all(self, sock: socket.socket) -> None:
        with sock:
            try:
                sock.settimeout(30)
                hello = True
                while data := sock.recv(65536):
                    sock.sendall(_hello(data) if hello and b"HELLO" in data else self._answer)
                    hello = False
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


def _hello(data: bytes) -> bytes:
    return b"%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n"


def odd_values(lab: Lab, seconds: float) -> Seen:
    """An entry with a TTL of 115 days; members of the cluster with escapes and invalid numbers."""
    name = "g-long.values.test"
    question = query(name)[12:]
    wire = b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + question + b"\xc0\x0c\0\1\0\1\0\x98\x96\x7f\0\4\xc0\0\2\x63"
    key = f"rdns:1:{{{name}.}}:A"
    with lab.redis() as client:
        stored = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        info = f"rcode=NOERROR ttl=9999999 stale=0 stored={stored} from=192.0.2.1 node=n2"
        client.hset(key, mapping={"info": info, "answer": "x", "wire": wire})
        client.pexpire(key, 9_999_999_000)
        client.zadd("rdns:1:nodes", {"evil\x1b[2J.0": time.time()})
        told = '{"node": "\\u001b[31m", "version": "\\u001b[2J", "queries": 1e999, "uptime": 1e999}'
        client.set("rdns:1:node:evil\x1b[2J.0", told)
    reply = ask(lab.port, [name]).get(name, b"")
    at = 12 + len(question) + 6
    ttl = int.from_bytes(reply[at : at + 4], "big") if len(reply) > at + 4 else -1
    words = [sys.executable, "-m", "rdnscache", "cluster", "status", "--redis", lab.url]
    done = subprocess.run(words, capture_output=True, timeout=30, check=False, cwd=ROOT)
    return {"ttl": ttl, "status": done.returncode, "escapes": (done.stdout + done.stderr).count(b"\x1b")}


def orders(lab: Lab, seconds: float) -> Seen:
    """Send orders to reload; then kill the supervisor, adopt its workers, and see which processes they signal."""
    ids = iter(range(1, 10_000))

    def order(count: int, event: str) -> None:
        with lab.redis() as client:
            for _ in range(count):
                client.publish("rdns:1:control", f'{next(ids)}-1 {{"event": "{event}"}}')

    ends = time.monotonic() + seconds
    for _ in range(10):
        order(100, "reload")
        time.sleep(max(ends - time.monotonic(), 0) / 10)
    time.sleep(max(ends + 3 - time.monotonic(), 0))  # until the honest clients are done
    obeyed, workers = lab.said("nothing to change"), lab.workers()
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        lab.server.process.kill()
        lab.server.process.wait()
        wait_for(lambda: all(parent(pid) == os.getpid() for pid in workers), 2, "no orphans")
        for event in ("reload", "restart"):
            order(10, event)
        met = signal.sigtimedwait(ORDERS, 1.5)
        orphans = sum(parent(pid) == os.getpid() for pid in workers)
        for pid in workers:
            os.waitpid(pid, 0)
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    return {"obeyed": obeyed, "orphans": orphans, "signals": float(met is not None)}


def parent(pid: int) -> int:
    """A process's parent; 0 when there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def hang_worker(lab: Lab, seconds: float) -> Seen:
    """Stop a worker (SIGSTOP): seconds until another one replaces it."""
    workers = lab.workers()
    os.kill(workers[0], signal.SIGSTOP)
    began = time.monotonic()
    try:
        wait_for(lambda: workers[0] not in (now := lab.workers()) and len(now) == len(workers), 20, "not replaced")
        return {"replaced after s": round(time.monotonic() - began, 1)}
    except Exception:
        os.kill(workers[0], signal.SIGCONT)
        return {"replaced after s": -1}


Meddler = Callable[[Lab, float], Seen]
