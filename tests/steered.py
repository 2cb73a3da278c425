"""A cluster that is steered by its commands, for tests: flushed, told things, cut off, looked at."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
from support import Node, Upstream, ask, clean_env, free_port, wait_for


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rdnscache", *words],
        capture_output=True, text=True, timeout=30, env=clean_env(), cwd=Path(__file__).parent.parent, check=False,
    )  # fmt: skip


class Changing:
    """An upstream's handler whose answer can be changed."""

    def __init__(self) -> None:
        self.address = "192.0.2.1"
        self.rcode = dns.rcode.NOERROR

    def __call__(self, query: dns.message.Message, transport: str) -> dns.message.Message:
        reply = dns.message.make_response(query, recursion_available=True)
        reply.set_rcode(self.rcode)
        if self.rcode == dns.rcode.NOERROR:
            reply.answer.append(dns.rrset.from_text(query.question[0].name, 300, "IN", "A", self.address))
        return reply


def answer_of(port: int, name: str, **how: float) -> str:
    return str(ask(port, name, **how).answer[0][0])


@contextmanager
def cluster(
    urls: Sequence[str], upstream: Upstream, workers: int = 2, args: Sequence[str] = ()
) -> Iterator[list[Node]]:
    """A node for each URL of the same Redis, `n0` and so on, all attached and introduced."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(Node([upstream.address], url, workers, (*args, "--node-id", f"n{index}")))
            for index, url in enumerate(urls)
        ]
        wait_for(lambda: all(node.log().count("attached to Redis") >= workers for node in nodes))
        wait_for(lambda: len(members(urls[0])) >= workers * len(nodes))
        yield nodes


def members(url: str) -> list[dict[str, Any]]:
    found = command("cluster", "members", "--json", "--redis", url)
    return list(json.loads(found.stdout))


def fill_all_workers(node: Node, name: str, wanted: str) -> None:
    """Until 40 clients in a row, each from a port of its own, get the same answer: all workers have it in L1."""
    wait_for(lambda: {answer_of(node.port, name) for _ in range(40)} == {wanted})


class Relay:
    """A TCP relay to a Redis that can be cut, as a network can."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._to = port
        self._cut = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._cut.is_set():
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._to))
            self._pairs.append((client, server))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for each in (source, target):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self) -> None:
        self._cut.set()
        for pair in self._pairs:
            for each in pair:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def heal(self) -> None:
        self._cut.clear()

    def close(self) -> None:
        self.cut()
        self._listener.close()
