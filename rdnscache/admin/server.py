"""The admin port: /metrics, /healthz, /readyz, and the live page with its API.

All workers serve one listener; the numbers are shared. Health checks are answered in the hub, and cannot be kept
waiting by other requests.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from rdnscache.address import Address
from rdnscache.admin.http import Answer, HttpServer, Request, Response, refusal
from rdnscache.admin.own_certificates import own_certificates
from rdnscache.admin.page_orders import PageOrders
from rdnscache.admin.page_status import PageStatus
from rdnscache.admin.prometheus import CONTENT_TYPE, exposition
from rdnscache.admin.query_search import LONGEST_SEARCH
from rdnscache.admin.tokens import Attempts, is_one_of, shown_token
from rdnscache.config import Config
from rdnscache.departure import Departure
from rdnscache.errors import StoreDown
from rdnscache.metrics import WARM, Board

log = logging.getLogger(__name__)

#: Longest name to look up in characters (one of 255 octets has at most 1,016), and longest type.
MAX_NAME, MAX_TYPE = 1100, 32
#: Longest name of a node with its incarnation, in characters.
MAX_NODE = 266
#: How many requests may wait for the status of the cluster at a time; look-ups and flushes run one at a time.
MAX_LOOKERS = 8
_PAGE = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
#: What is private, but for readers.
_READ = ("/api/lookup", "/api/config")
_JSON = "application/json"
#: Lets browsers load only our own files into the page, and forbids other pages to frame it.
_SAFE = (
    ("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
#: The page sends this header with every request; another site cannot make a browser send it without our permission.
PAGE_HEADER = "x-rdnscache"


class Busy(Exception):
    """Too many other requests are being served."""


class Gate:
    """Admits a number of callers at a time; further ones are refused, not queued."""

    def __init__(self, slots: int) -> None:
        self._free = slots

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Raises Busy when it is full."""
        if not self._free:
            raise Busy
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class Admin:
    """The worker's part in the admin port. With an admin token, orders and what is private need it; without, orders are
    off. With a read token, everything but health needs one of them, and look-ups nothing more.
    """

    def __init__(
        self,
        listener: socket.socket,
        board: Board,
        page_status: PageStatus,
        orders: PageOrders,
        config: Config,
        departure: Departure,
    ) -> None:
        #: Whether only this machine can connect: then the Host has to be one of its own addresses.
        self._local = Address(*listener.getsockname()[:2]).loopback
        self._server = HttpServer(listener, self._answer, _SAFE)
        self._board, self._own = board, own_certificates(config)
        self._page_status = page_status
        self._orders = {
            "/api/flush": orders.flush,
            "/api/blocking": orders.blocking,
            "/api/reload": orders.reload,
            "/api/restart": orders.restart,
            "/api/forget": orders.forget,
        }
        #: Paths that show clients, the names they asked for, or our addresses: if there is a token, they require it.
        self._private: dict[str, Callable[[Request], Answer]] = {
            "/api/lookup": self._lookup,
            "/api/clients": lambda _: self._work(self._lookers, page_status.clients),
            "/api/queries": self._queries,
            "/api/config": self._config,
        }
        self._token, self._read_token = config.admin_token.encode(), config.admin_read_token.encode()
        self._hosts = frozenset(host.lower().rstrip(".") for host in config.admin_host)
        folder = files("rdnscache.admin") / "page"
        self._files = {path: (kind, (folder / name).read_bytes()) for path, (name, kind) in _PAGE.items()}
        self._attempts = Attempts()
        self._lookers, self._lookups, self._flushes = Gate(MAX_LOOKERS), Gate(1), Gate(1)
        self._departure = departure

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """A successor has the same listener."""
        self._server.stop()

    @property
    def busy(self) -> bool:
        return self._server.busy

    def _answer(self, request: Request) -> Answer:
        """Called in the hub: anything that takes longer is returned as work."""
        path, method = request.path, request.method
        if method not in ("GET", "HEAD") and not (method == "POST" and path in self._orders):
            return refusal(405, "try GET", ("Allow", "GET, HEAD"))
        if path == "/healthz":
            return refusal(200, "ok")
        if path == "/readyz":
            return self._readiness()
        refused = self._may_read(request) if self._read_token else None
        if refused is not None:
            return refused
        if path == "/metrics":
            return lambda: Response(200, CONTENT_TYPE, exposition(self._board, self._own))
        if not self._may_be_called(request.headers.get("host", "")):
            return refusal(421, "the page is not served under this name: use an address, or see --admin-host")
        if path in self._files:
            return Response(200, *self._files[path])
        if path.startswith("/api/") and _from_elsewhere(request.headers):
            return _json(403, {"error": "requests from other sites are refused"})
        if path == "/api/cluster":
            return self._work(self._lookers, self._page_status.cluster)
        if path == "/api/hour":
            return self._work(self._lookers, self._page_status.hour)
        if path in self._private:
            # Who has a read token has shown it above; what clients ask is not for everybody who may read.
            open_to_readers = bool(self._read_token) and path in _READ
            refused = self._authorise(request) if self._token and not open_to_readers else None
            return refused if refused is not None else self._private[path](request)
        if path in self._orders:
            return self._order(request, self._orders[path])
        return refusal(404, "try /, /metrics, /healthz or /readyz")

    def _readiness(self) -> Response:
        if self._departure.begun:
            return refusal(503, "draining")
        warm = self._board.count(WARM)
        if warm < self._board.workers:
            return refusal(503, f"starting: {warm} of {self._board.workers} workers are warm")
        return refusal(200, "ok")

    def _work(self, gate: Gate, find: Callable[[], bytes]) -> Callable[[], Response]:
        """Work whose result is sent as JSON; errors become responses with a sentence."""

        def work() -> Response:
            try:
                with gate.inside():
                    return Response(200, _JSON, find())
            except Busy:
                return replace(
                    _json(503, {"error": "too many requests are being served, try again"}),
                    headers=(("Retry-After", "1"),),
                )
            except StoreDown as error:
                return _json(503, {"error": f"Redis: {error}"})
            except (ValueError, RecursionError) as error:  # the request cannot be parsed
                return _json(400, {"error": str(error)})

        return work

    def _lookup(self, request: Request) -> Answer:
        asked = _asked(request)
        name, rtype = asked.get("name", ""), asked.get("type", "")
        if not 0 < len(name) <= MAX_NAME or len(rtype) > MAX_TYPE:
            return _json(400, {"error": f"give a name of 1 to {MAX_NAME} characters, and optionally a type"})
        return self._work(self._lookups, lambda: _bytes(self._page_status.lookup(name, rtype)))

    def _queries(self, request: Request) -> Answer:
        words = _asked(request).get("words", "")
        if len(words) > LONGEST_SEARCH:
            return _json(400, {"error": f"a search may have at most {LONGEST_SEARCH} characters"})
        return self._work(self._lookups, lambda: self._page_status.queries(words))

    def _config(self, request: Request) -> Answer:
        node = _asked(request).get("node", "")
        if len(node) > MAX_NODE:
            return _json(400, {"error": "this is not the name of a node"})
        return self._work(self._lookups, lambda: self._page_status.options(node))

    def _order(self, request: Request, obey: Callable[[Any], dict[str, Any]]) -> Answer:
        """Requires the token in a header of its own, which a page of another site cannot make a browser send."""
        if request.method != "POST":
            return refusal(405, "try POST", ("Allow", "POST"))
        if not self._token:
            return _json(403, {"error": "flushing, pausing and other orders are off: no admin token is set"})
        refused = self._authorise(request)
        if refused is not None:
            return refused
        return self._work(self._flushes, lambda: _bytes(obey(_object(request.body))))

    def _authorise(self, request: Request) -> Response | None:
        """The refusal of a request without the admin token, or of a client that has sent too many wrong ones."""
        given = request.headers.get("authorization", "")
        return self._refused(request, "admin", is_one_of(shown_token(given, basic=False), self._token), "Bearer")

    def _may_read(self, request: Request) -> Response | None:
        """The same for either token; browsers prompt for it, and send it as a password."""
        given = shown_token(request.headers.get("authorization", ""), basic=True)
        known = is_one_of(given, self._read_token, self._token)
        return self._refused(request, "read", known, 'Basic realm="rdnscache: any name, and the read token"')

    def _refused(self, request: Request, kind: str, known: bool, challenge: str) -> Response | None:
        now = time.monotonic()
        wait = self._attempts.wait(request.client, now)
        if wait:
            error = {"error": f"too many wrong tokens: try again in {wait} s"}
            return replace(_json(429, error), headers=(("Retry-After", str(wait)),))
        if known:
            return None
        given = "authorization" in request.headers
        if given:
            self._attempts.note(request.client, now)
        error = {"error": f"this is not the {kind} token" if given else f"this needs the {kind} token"}
        return replace(_json(401, error), headers=(("WWW-Authenticate", challenge),))

    def _may_be_called(self, host: str) -> bool:
        """Whether the page may be served under a Host.

        Another site can make its own name resolve to our address (DNS rebinding), but it cannot have an IP address as
        its name, nor a name of ours: those are allowed. If only this machine can connect, the address has to be its
        own.
        """
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:[0-9]{1,5})?", host)
        if match is None:
            return False
        name = match[1].strip("[]").lower().rstrip(".")
        if name == "localhost" or name in self._hosts:
            return True
        try:
            return Address.parse(name, 0).loopback or not self._local
        except ValueError:
            return False


def _from_elsewhere(headers: dict[str, str]) -> bool:
    """Whether a page of another site made the browser send this request, which costly requests must not allow.

    Browsers tell where a request comes from, except older ones, and except to a plain HTTP site on another machine;
    without that information the page's own header is required.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return True
    return headers.get("user-agent", "").startswith("Mozilla/") and PAGE_HEADER not in headers


def _asked(request: Request) -> dict[str, str]:
    """The parameters of the query string; none when it cannot be parsed."""
    try:
        found = parse_qs(request.query, max_num_fields=8)
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items()}


def _object(body: bytes) -> Any:
    if not body:
        raise ValueError(
            "the body has to be a JSON object: to flush, with name, zone, type, rcode or all; otherwise pause or node"
        )
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None


def _json(status: int, told: Any) -> Response:
    return Response(status, _JSON, _bytes(told))


def _bytes(told: Any) -> bytes:
    return json.dumps(told).encode()
