"""The PROXY protocol, version 2: a proxy tells us which client asks (haproxy's doc/proxy-protocol.txt, section 2.2).

The header precedes the message in each datagram, or comes once at the beginning of a connection. It lets its sender
pretend to be any client, so it is accepted from trusted peers only. No content makes the functions here raise.

    octets   what
    0-11     signature
    12       version 2 and command: 0x20 LOCAL (a health check of the proxy's own), 0x21 PROXY
    13       family (1 IPv4, 2 IPv6, 3 UNIX, 0 unknown) and transport (1 stream, 2 datagram, 0 unknown)
    14-15    octets that follow in the header
    16-      source and destination address, source and destination port, then type-length-value fields

Of the fields only the name that the client sent in TLS is read, if it is needed. A checksum (CRC32C) is not verified:
UDP and TCP have their own.
"""

from __future__ import annotations

import re

#: The beginning of every header; it cannot be the beginning of a valid query.
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

#: The longest header we read, in octets: the smallest segment any TCP has to take (RFC 9293 section 3.7.1), which the
#: specification says a header fits in. dnsdist and the PowerDNS recursor stop at 512 unless told otherwise.
MAX_HEADER = 536

#: Results of `proxy_end` when more octets are needed, and when there is no acceptable header.
MORE, REFUSED = 0, -1

#: The field with the host name that the client sent in TLS (PP2_TYPE_AUTHORITY).
AUTHORITY = 0x02
#: Octets of a host name, without a dot at its end (RFC 1035 section 2.3.4), and what it looks like.
MAX_HOST = 253
_HOST = re.compile(rb"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")

#: The header that a proxy sends before a query of its own.
LOCAL_HEADER = SIGNATURE + b"\x20\0\0\0"


class Proxied:
    """The client that asked the proxy, and the address it asked.

    Addresses are 4 or 16 octets. They are empty when the peer itself is the client: a LOCAL header, or an address of
    a kind we cannot use (unknown, UNIX), for which the specification wants the same.
    """

    __slots__ = ("destination", "destination_port", "end", "source", "source_port", "stream")

    def __init__(self, end: int) -> None:
        self.source = b""
        self.source_port = 0
        self.destination = b""
        self.destination_port = 0
        #: Whether the client used a stream such as TCP: then a truncated reply is of no use to it.
        self.stream = False
        #: Offset of the payload.
        self.end = end


def proxy_end(data: bytes) -> int:
    """Offset of the payload behind the header at the beginning of `data`, or MORE, or REFUSED.

    MORE as long as the data may be the beginning of a header; REFUSED from the first octet that cannot belong to one.
    """
    length = len(data)
    if data[:12] != SIGNATURE[:length]:
        return REFUSED
    if length < 16:
        return MORE
    end = 16 + (data[14] << 8 | data[15])
    if end > MAX_HEADER or data[12] & 0xFE != 0x20:
        return REFUSED
    if data[12] == 0x21 and (data[13] >> 4 > 3 or data[13] & 0x0F > 2 or end < 16 + _addresses_size(data[13])):
        return REFUSED
    return end if length >= end else MORE


def _addresses_size(kind: int) -> int:
    """Octets of the addresses and ports of a family and transport; 0 for those we do not read."""
    if kind in (0x11, 0x12):
        return 12
    return 36 if kind in (0x21, 0x22) else 0


def parse_proxy(data: bytes) -> Proxied | None:
    """Read a whole header; None when it is cut off or REFUSED."""
    end = proxy_end(data)
    if end <= 0:
        return None
    proxied = Proxied(end)
    size = (_addresses_size(data[13]) - 4) // 2
    if data[12] == 0x21 and size > 0:
        ports = 16 + 2 * size
        proxied.source = data[16 : 16 + size]
        proxied.destination = data[16 + size : ports]
        proxied.source_port = data[ports] << 8 | data[ports + 1]
        proxied.destination_port = data[ports + 2] << 8 | data[ports + 3]
        proxied.stream = data[13] & 0x0F == 1
    return proxied


def tls_name(data: bytes, end: int) -> bytes:
    """The host name that the client sent in TLS, in lower case; empty when the header has none.

    `data` begins with a header that `parse_proxy` has read, which ends at `end` and has the client's address.
    """
    at = 16 + _addresses_size(data[13])
    while at + 3 <= end:
        start = at + 3
        at = start + (data[start - 2] << 8 | data[start - 1])
        if data[start - 3] == AUTHORITY:
            return host_name(data[start:at]) if at <= end else b""
    return b""


def host_name(text: bytes) -> bytes:
    """A host name in lower case, without a final dot; empty for anything else."""
    if len(text) > MAX_HOST + 1:
        return b""
    text = text.lower().removesuffix(b".")
    return text if len(text) <= MAX_HOST and _HOST.fullmatch(text) is not None else b""


def build_proxy(
    source: bytes, source_port: int, destination: bytes, destination_port: int, stream: bool, fields: bytes = b""
) -> bytes:
    """A header for a client at `source`, addresses as 4 or 16 octets; ValueError when they do not go together."""
    if len(source) != len(destination) or len(source) not in (4, 16):
        raise ValueError("source and destination are not two addresses of one family")
    ports = source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
    rest = source + destination + ports + fields
    if 16 + len(rest) > MAX_HEADER:
        raise ValueError(f"the header would be longer than {MAX_HEADER} octets")
    kind = (0x10 if len(source) == 4 else 0x20) | (1 if stream else 2)
    return SIGNATURE + bytes((0x21, kind)) + len(rest).to_bytes(2, "big") + rest
