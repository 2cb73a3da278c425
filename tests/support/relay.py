"""Relays to a Redis, which can be cut or delayed."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

from .ports import free_port
from .processes import ROOT


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
                threading.Thread(target=pass_on, args=(source, target), daemon=True).start()

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


class ChaosRelay:
    """The relay of chaos.relay, with its faults as methods."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        words = [sys.executable, "-m", "chaos.relay", str(target), str(self.port)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True, cwd=ROOT)

    def tell(self, words: str) -> None:
        """Send an order to chaos.relay."""
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()

    def delay(self, seconds: float) -> None:
        """In each direction, for what passes from now on."""
        self.tell(f"delay 0 {seconds}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Copy from one socket to the other until either is closed; then close both."""
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
