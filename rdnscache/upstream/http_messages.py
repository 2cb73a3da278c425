"""DNS messages in HTTP (RFC 8484), for all versions of HTTP. Pure."""

from __future__ import annotations

from collections.abc import Iterable

MESSAGE = b"application/dns-message"
#: The ID is 0, so that HTTP caches see equal queries as equal (RFC 8484 section 4.1).
NO_ID = b"\0\0"
#: The minimum size of a DNS message (RFC 1035 section 4.1.1).
LEAST = 12

Headers = list[tuple[bytes, bytes]]


def request_head(authority: str, path: str) -> Headers:
    """The headers of every query by POST; the caller appends `content-length`."""
    return [
        (b":method", b"POST"), (b":scheme", b"https"), (b":authority", authority.encode()), (b":path", path.encode()),
        (b"accept", MESSAGE), (b"content-type", MESSAGE),
    ]  # fmt: skip


def objection(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Why a response with these headers contains no DNS message; empty if it may contain one."""
    head = dict(headers)
    status, kind = head.get(b":status", b""), head.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if status != b"200":
        return f"HTTP status {status[:3].decode('ascii', 'replace')}"
    return "" if kind == MESSAGE else "an HTTP response that is not a DNS message"
