"""DNS messages in HTTP (RFC 8484), whichever version of it carries them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

MESSAGE = b"application/dns-message"
#: The ID is 0, so that caches on the way see equal questions as equal (RFC 8484 section 4.1).
NO_ID = b"\0\0"
#: Octets of a DNS message without a question (RFC 1035 section 4.1.1).
LEAST = 12

Headers = list[tuple[bytes, bytes]]


def request_head(authority: str, path: str) -> Headers:
    """The headers of every query, by POST; `content-length` is to follow."""
    return [
        (b":method", b"POST"), (b":scheme", b"https"), (b":authority", authority.encode()), (b":path", path.encode()),
        (b"accept", MESSAGE), (b"content-type", MESSAGE),
    ]  # fmt: skip


def objection(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Why a response with these headers holds no DNS message; empty when it may."""
    head = dict(headers)
    status, kind = head.get(b":status", b""), head.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if status != b"200":
        return f"HTTP status {status[:3].decode('ascii', 'replace')}"
    return "" if kind == MESSAGE else "what comes over HTTP is no DNS message"
