"""The part of HTTP/1.1 that the admin port needs: one request per connection, everything bounded before it is read.

It runs on the hub like the DNS sockets. A connection needs no greenlet until its request is complete. Connections that
are slow to send a request or to read the response are closed in favour of new ones, those of the client with the most
connections first.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import gevent
from gevent import get_hub

from rdnscache.logs import Throttled
from rdnscache.stream import READ, Stream

log = logging.getLogger(__name__)

#: Most octets of the request line with all headers, and of a body; most header lines.
MAX_HEAD, MAX_BODY, MAX_HEADERS = 8192, 10_000, 64
#: Most connections of a worker, and of one client (an address, or an IPv6 /64) among them.
MAX_CONNECTIONS, MAX_OF_CLIENT = 256, 64
#: Most octets of responses not yet sent, over all connections.
MAX_UNSENT = 16 << 20
#: Time limits in seconds: for a request to arrive, for the answer to be produced, and for it to be sent. And how long a
#: connection stays open after an answer to a request that was not read to its end: if it were closed at once, the
#: client would lose the answer.
REQUEST_TIME, WORK_TIME, LEAVE_TIME, LINGER_TIME = 5.0, 15.0, 10.0, 1.0
#: Most octets discarded during that time.
MAX_WASTE = 256 << 10
#: Connections accepted at a time; seconds between checks of the deadlines.
ACCEPTS, SWEEP_INTERVAL = 16, 0.25

REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 411: "Length Required", 413: "Content Too Large", 421: "Misdirected Request",
    429: "Too Many Requests", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    501: "Not Implemented", 503: "Service Unavailable",
}  # fmt: skip

_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) ([!-~]+) HTTP/1\.[01]")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0]*?)[ \t]*")


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request. Header names are in lower case; `client` identifies the sender for limits."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    client: bytes
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; `headers` beside Content-Type and Content-Length."""

    status: int
    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


#: The result of handling a request: a response, or work that may block and runs in a greenlet of its own.
Answer = Response | Callable[[], Response]


class BadRequest(Exception):
    """The request is malformed or not supported."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def refusal(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """A response with a sentence in plain text."""
    return Response(status, "text/plain; charset=utf-8", f"{text}\n".encode(), headers)


def parse_head(head: bytes, client: bytes) -> Request:
    """Parse a request line and headers. Raises BadRequest."""
    line, *lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None or not match[2].startswith("/"):
        raise BadRequest(400, "this is not an HTTP/1.1 request")
    if len(lines) > MAX_HEADERS:
        raise BadRequest(431, f"more than {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for each in lines:
        header = _HEADER.fullmatch(each)
        name = header[1].lower() if header else ""
        if header is None or (name in headers and name in ("host", "content-length", "authorization")):
            raise BadRequest(400, "a header cannot be read")
        headers[name] = f"{headers[name]}, {header[2]}" if name in headers else header[2]
    path, _, query = match[2].partition("?")
    return Request(match[1], path, query, headers, client)


def body_size(headers: dict[str, str]) -> int:
    """The length of the body in octets. Raises BadRequest."""
    if "transfer-encoding" in headers:
        raise BadRequest(501, "send the body with a Content-Length")
    text = headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadRequest(400, "the Content-Length is not a number")
    if int(text) > MAX_BODY:
        raise BadRequest(413, f"the body has more than {MAX_BODY} octets")
    return int(text)


class HttpServer:
    """The connections of one listener. `answer` is called in the hub, `headers` go with every response."""

    def __init__(
        self, sock: socket.socket, answer: Callable[[Request], Answer], headers: tuple[tuple[str, str], ...]
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self.answer = answer
        self.headers = headers
        loop = get_hub().loop
        self._watcher = loop.io(sock.fileno(), READ)
        self._sweeper = loop.timer(SWEEP_INTERVAL, SWEEP_INTERVAL)
        #: By client, the oldest first.
        self._connections: dict[bytes, dict[Connection, None]] = {}
        self._count = 0
        self._accepts = True
        self.odd = Throttled(log)

    def start(self) -> None:
        self._watcher.start(self._accept)
        self._sweeper.start(self._sweep)

    def stop(self) -> None:
        """Stop accepting: other workers have the same listener."""
        self._accepts = False
        self._watcher.stop()

    @property
    def busy(self) -> bool:
        """Whether an answer is being produced or sent."""
        return any(each.at_work or each.unsent for mine in self._connections.values() for each in mine)

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, address = self._sock.accept()
            except OSError as error:  # no descriptor is left, or the client is gone already
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._watcher.stop()  # connections wait in the backlog until the next sweep
                return
            client = client_of(address[0])
            if not self._make_room(client):
                sock.close()
                continue
            connection = Connection(sock, client, self)
            self._connections.setdefault(client, {})[connection] = None
            self._count += 1
            connection.read()

    def _make_room(self, client: bytes) -> bool:
        """Whether a client may have one more connection, if need be in place of the oldest one without a complete
        request."""
        mine = self._connections.get(client, {})
        if len(mine) >= MAX_OF_CLIENT:
            return self._push_out(mine)
        if self._count < MAX_CONNECTIONS:
            return True
        by_size = sorted(self._connections.values(), key=len, reverse=True)
        return any(map(self._push_out, by_size))

    @staticmethod
    def _push_out(connections: dict[Connection, None]) -> bool:
        for connection in connections:
            if not connection.at_work:
                connection.close()
                return True
        return False

    def left(self, connection: Connection) -> None:
        mine = self._connections.get(connection.client, {})
        if connection in mine:
            del mine[connection]
            self._count -= 1
            if not mine:
                del self._connections[connection.client]

    def fit_unsent(self, newest: Connection) -> None:
        """Close the connections with the most unsent octets until the rest is within the limit."""
        slow = [each for mine in self._connections.values() for each in mine if each.unsent]
        total = sum(each.unsent for each in slow)
        for each in sorted(slow, key=lambda each: (each is newest, -each.unsent)):
            if total <= MAX_UNSENT:
                return
            total -= each.unsent
            each.close()

    def _sweep(self) -> None:
        if self._accepts and not self._watcher.active:
            self._watcher.start(self._accept)
        now = time.monotonic()
        self.odd.catch_up(now)
        for connection in [each for mine in self._connections.values() for each in mine if each.deadline <= now]:
            connection.expire()


def client_of(host: str) -> bytes:
    """The client an address belongs to: the address itself, or the /64 of an IPv6 address."""
    host = host.partition("%")[0]
    return socket.inet_pton(socket.AF_INET6, host)[:8] if ":" in host else socket.inet_pton(socket.AF_INET, host)


class Connection:
    """One request and its answer."""

    def __init__(self, sock: socket.socket, client: bytes, server: HttpServer) -> None:
        self.client = client
        self._server = server
        self._buffer = bytearray()
        self._request: Request | None = None
        #: Octets of the body; octets discarded.
        self._size = self._waste = 0
        self._answered = self._lingers = False
        #: Whether the answer is being produced; the connection is not closed for slowness meanwhile.
        self.at_work = False
        self.deadline = time.monotonic() + REQUEST_TIME
        self._stream = Stream(sock, self._received, self._ended, MAX_UNSENT, self._drained)

    @property
    def unsent(self) -> int:
        return self._stream.unsent

    def read(self) -> None:
        """Read at once: most requests have arrived by the time their connection is accepted."""
        self._stream.read()

    def close(self) -> None:
        self._stream.close()
        self._server.left(self)

    def expire(self) -> None:
        """The deadline has passed."""
        if self._buffer and not self._answered and not self.at_work:
            self._send(refusal(408, "the request did not arrive in time"), lingers=False)
        self.close()

    def _ended(self, reason: str) -> None:
        """The client closed its side, or the connection broke; a client whose request is complete still gets its
        answer."""
        if self._stream.closed or not (self.at_work or self._stream.unsent) or self._lingers:
            self.close()

    def _received(self, data: bytes) -> None:
        if self._answered or self.at_work:  # ignore any further data
            self._waste += len(data)
            if self._waste > MAX_WASTE:
                self.close()
            return
        self._buffer += data
        try:
            if self._request is not None or self._read_head(len(data)):
                self._read_body()
        except BadRequest as error:
            self._send(refusal(error.status, str(error)), lingers=True)
        except Exception as error:
            self._fail(error)

    def _read_head(self, added: int) -> bool:
        """Whether the head is complete."""
        match = _END_OF_HEAD.search(self._buffer, max(len(self._buffer) - added - 3, 0), MAX_HEAD)
        if match is None:
            if len(self._buffer) >= MAX_HEAD:
                raise BadRequest(431, f"a request line and headers of more than {MAX_HEAD} octets")
            return False
        self._request = request = parse_head(bytes(self._buffer[: match.start()]), self.client)
        self._size = body_size(request.headers)
        del self._buffer[: match.end()]
        if self._size > len(self._buffer) and request.headers.get("expect", "").lower() == "100-continue":
            self._stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _read_body(self) -> None:
        if len(self._buffer) < self._size or self._request is None:
            return
        head = self._request
        body = bytes(self._buffer[: self._size])
        request = Request(head.method, head.path, head.query, head.headers, head.client, body)
        self._request = request
        found = self._server.answer(request)
        if isinstance(found, Response):
            self._send(found, lingers=len(self._buffer) > self._size)
        else:
            self.at_work = True
            self.deadline = time.monotonic() + WORK_TIME + SWEEP_INTERVAL
            gevent.spawn(self._work, found)

    def _work(self, work: Callable[[], Response]) -> None:
        """Runs in a greenlet, started as a callback of the hub: it runs such callbacks for at most 5 ms between two
        polls."""
        try:
            with gevent.Timeout(WORK_TIME, False):
                self._send(work(), lingers=False)
                return
            self._send(refusal(503, "this took too long", ("Retry-After", "5")), lingers=False)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        now = time.monotonic()
        self._server.odd.warn(f"a request failed unexpectedly: {error!r:.200}", now)
        log.debug("a request failed unexpectedly", exc_info=True)
        self._send(refusal(500, "this failed unexpectedly; see the log"), lingers=True)

    def _send(self, response: Response, lingers: bool) -> None:
        """Send the answer; the connection closes once it is sent, or a little later if the request was not read to its
        end."""
        self.at_work, self._answered, self._lingers = False, True, lingers
        if self._stream.closed:
            return
        self._buffer.clear()
        request = self._request
        named = {"Content-Type": response.kind, "Content-Length": str(len(response.body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {response.status} {REASONS[response.status]}"]
        lines += [f"{name}: {value}" for name, value in (*named.items(), *self._server.headers, *response.headers)]
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        self.deadline = time.monotonic() + LEAVE_TIME
        self._stream.write(head if request is not None and request.method == "HEAD" else head + response.body)
        if self._stream.unsent:
            self._server.fit_unsent(self)
        else:
            self._drained()

    def _drained(self) -> None:
        if self._answered and self._lingers and not self._stream.closed:
            self.deadline = time.monotonic() + LINGER_TIME
        elif self._answered:
            self.close()
