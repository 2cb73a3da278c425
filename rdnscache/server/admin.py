"""HTTP for operators: /metrics, /healthz, /readyz, and the live page with what it asks for.

Every worker serves the one listener; the numbers are shared.
"""

from __future__ import annotations

import hmac
import json
import logging
import socket
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

import gevent.socket
from gevent.pywsgi import WSGIServer
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rdnscache.errors import StoreDown
from rdnscache.metrics import WARM, Board
from rdnscache.net import Address
from rdnscache.server.exposition import make_registry
from rdnscache.server.overview import Overview

log = logging.getLogger(__name__)

#: Requests served at a time, and the octets of one's body.
MAX_REQUESTS, MAX_BODY = 64, 10_000
_PAGE = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
#: What a browser may do with our page: nothing but load our own files; and nobody may frame it.
_SAFE = [
    ("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]
_STATUS = {200: "200 OK", 400: "400 Bad Request", 401: "401 Unauthorized", 403: "403 Forbidden", 404: "404 Not Found",
           405: "405 Method Not Allowed", 421: "421 Misdirected Request", 503: "503 Service Unavailable"}  # fmt: skip

Response = tuple[int, str, bytes]


class Admin:
    """The worker's part in the admin port. `token` is what a flush from the page needs; empty, and there is none."""

    def __init__(self, listener: socket.socket, board: Board, overview: Overview, token: str) -> None:
        local = Address(*listener.getsockname()[:2]).loopback
        sock = gevent.socket.socket(fileno=listener.detach())
        sock.setblocking(False)
        self._server = WSGIServer(sock, self._serve, spawn=MAX_REQUESTS, log=None, error_log=log)
        self._registry = make_registry(board)
        self._board = board
        self._overview = overview
        self._token = token.encode()
        #: Whether only this machine can ask us: then only its names may be in the address, against DNS rebinding.
        self._local = local
        self.draining = False

    def start(self) -> None:
        self._server.start()

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        try:
            status, kind, body = self._answer(environ)
        except StoreDown as error:
            status, kind, body = _json(503, {"error": f"Redis: {error}"})
        except (ValueError, RecursionError) as error:  # what was asked for cannot be read
            status, kind, body = _json(400, {"error": str(error)})
        start(_STATUS[status], [("Content-Type", kind), ("Content-Length", str(len(body))), *_SAFE])
        return [body if environ["REQUEST_METHOD"] != "HEAD" else b""]

    def _answer(self, environ: dict[str, Any]) -> Response:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD") and (method, path) != ("POST", "/api/flush"):
            return _text(405, "try GET\n")
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        if path == "/healthz":
            return _text(200, "ok\n")
        if path == "/readyz":
            return self._readiness()
        if self._local and not _is_loopback(environ.get("HTTP_HOST", "")):
            return _text(421, "this page is for its own machine\n")
        if path in _PAGE:
            name, kind = _PAGE[path]
            return 200, kind, (files("rdnscache") / "page" / name).read_bytes()
        if path == "/api/cluster":
            return _json(200, self._overview.cluster() | {"can_flush": bool(self._token)})
        if path == "/api/lookup":
            asked = parse_qs(environ.get("QUERY_STRING", ""))
            return _json(200, self._overview.lookup(asked.get("name", [""])[0], asked.get("type", [""])[0]))
        if path == "/api/flush":
            return self._flush(environ)
        return _text(404, "try /, /metrics, /healthz or /readyz\n")

    def _readiness(self) -> Response:
        if self.draining:
            return _text(503, "draining\n")
        warm = self._board.count(WARM)
        if warm < self._board.workers:
            return _text(503, f"starting: {warm} of {self._board.workers} workers are warm\n")
        return _text(200, "ok\n")

    def _flush(self, environ: dict[str, Any]) -> Response:
        """Needs the token in a header of its own, which no other site's page can make a browser send."""
        if environ["REQUEST_METHOD"] != "POST":
            return _text(405, "try POST\n")
        if not self._token:
            return _json(403, {"error": "flushing is off: no admin token is set"})
        given = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._token):
            return _json(401, {"error": "this is not the admin token"})
        size = int(environ.get("CONTENT_LENGTH") or 0)
        if not 0 < size <= MAX_BODY:
            raise ValueError("a JSON object is wanted, with name, zone, type, rcode or all")
        return _json(200, self._overview.flush(json.loads(environ["wsgi.input"].read(size))))


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name.strip("[]") == "localhost":
        return True
    try:
        return Address.parse(name.strip("[]"), 0).loopback
    except ValueError:
        return False


def _json(status: int, told: Any) -> Response:
    return status, "application/json", json.dumps(told).encode()


def _text(status: int, text: str) -> Response:
    return status, "text/plain; charset=utf-8", text.encode()
