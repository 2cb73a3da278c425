"""Lists fetched by HTTP from servers that do it badly."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from rdnscache.lists import web
from rdnscache.lists.sources import SourceError
from rdnscache.lists.web import fetch

#: Nothing here is compiled.
pytestmark = pytest.mark.once


def test_a_server_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends an octet now and then, so that it is never silent: there is a time for all of it."""
    monkeypatch.setattr(web, "LONGEST", 0.2)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):  # nobody reads any more
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while not over.wait(0.01):
                    connection.send(b"x")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SourceError, match="has not ended"):
            fetch(f"http://127.0.0.1:{server.getsockname()[1]}/list", "", lambda: None)
        over.set()
        thread.join()


@pytest.mark.parametrize(
    "reply",
    [
        b"", b"rubbish\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc", b"HTTP/1.1 302 Found\r\nLocation: ftp://a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc",
    ],
)  # fmt: skip
def test_whatever_is_no_answer_is_one_error(reply: bytes) -> None:
    """Lines without sense, too long or too many, a text that ends too early: the caller sees SourceError only."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SourceError):
            fetch(f"http://127.0.0.1:{server.getsockname()[1]}/list", "", lambda: None)
        thread.join()
