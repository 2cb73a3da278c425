"""The EDNS option edns-tcp-keepalive (RFC 7828)."""

from __future__ import annotations

from rdnscache.dns.rdata import name_end, no_names
from rdnscache.dns.wire import HEADER_SIZE, OPT

#: The empty option with which a client announces that it keeps a connection (RFC 7828 section 3.2.1).
KEEPALIVE = b"\0\x0b\0\0"
_KEEPALIVE = 11


def keepalive(data: bytes) -> float | None:
    """Seconds for which the server keeps an idle connection open; None when the reply `data` does not say so."""
    length = len(data)
    if length < HEADER_SIZE or (not data[10] and not data[11]):
        return None
    seen = no_names(length)
    position = HEADER_SIZE
    questions, records = data[4] << 8 | data[5], 0
    for at in (6, 8, 10):
        records += data[at] << 8 | data[at + 1]
    for index in range(questions + records):
        position = name_end(data, position, length, seen, True)
        if position < 0:
            return None
        if index < questions:
            position += 4
            continue
        if position + 10 > length:
            return None
        start, stop = position + 10, position + 10 + (data[position + 8] << 8 | data[position + 9])
        if stop > length:
            return None
        if data[position] << 8 | data[position + 1] == OPT:
            return _read(data, start, stop)
        position = stop
    return None


def _read(data: bytes, position: int, stop: int) -> float | None:
    while position + 4 <= stop:
        size = data[position + 2] << 8 | data[position + 3]
        if data[position] << 8 | data[position + 1] == _KEEPALIVE:
            if size != 2 or position + 6 > stop:
                return None
            return (data[position + 4] << 8 | data[position + 5]) / 10
        position += 4 + size
    return None
