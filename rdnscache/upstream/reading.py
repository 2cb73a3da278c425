"""What comes back from the address and port that was asked, with the right ID: a reply to our question, or not.

Pure. Nobody on the way can be told from the server here, so what is believed is little: the question must be ours
(RFC 5452 section 9.1), and without a question only an error is (some servers cannot read what they refuse).
"""

from __future__ import annotations

from rdnscache.dns.wire import HEADER_SIZE, NOERROR, NXDOMAIN, YXDOMAIN, Reply, parse_reply

_TC = 0x02


def read_reply(key: bytes, data: bytes) -> Reply | None:
    """The reply in `data` to the question of `key`; None when it is to another question, or cannot be read."""
    reply = parse_reply(data)
    if reply is None:
        reply = _read_oddity(key, data)
    return reply if reply is not None and reply.question() == key[:-1] else None


def about(key: bytes, data: bytes) -> bool:
    """Whether what cannot be read is about the question of `key`, as far as can be seen: then it is no guess."""
    if len(data) < HEADER_SIZE or not data[2] & 0x80:
        return False
    if data[4] == 0 and data[5] == 0:
        return True
    asked, end = key[:-1], HEADER_SIZE + len(key) - 1
    told = data[HEADER_SIZE:end]
    names = told[: len(asked) - 4]
    return asked.startswith(names.lower() + told[len(names) :])


def _read_oddity(key: bytes, data: bytes) -> Reply | None:
    """A reply with octets behind it (they are left out), or an error that does not repeat the question."""
    if len(data) < HEADER_SIZE:
        return None
    if data[4] == 0 and data[5] == 0:
        if data[2] & _TC or data[3] & 0x0F in (NOERROR, NXDOMAIN, YXDOMAIN) or data[6:10] != bytes(4):
            return None
        return parse_reply(data[:4] + b"\0\1" + data[6:HEADER_SIZE] + key[:-1] + data[HEADER_SIZE:])
    end = _message_end(data)
    return parse_reply(data[:end]) if 0 < end < len(data) else None


def _message_end(data: bytes) -> int:
    """Offset just past the last record that the header counts; -1 when they do not fit."""
    questions, *counts = (data[at] << 8 | data[at + 1] for at in range(4, HEADER_SIZE, 2))
    at, length = HEADER_SIZE, len(data)
    for index in range(questions + sum(counts)):
        while at < length and 0 < data[at] < 64:
            at += data[at] + 1
        if at >= length:
            return -1
        at += 2 if data[at] else 1
        if index < questions:
            at += 4
        elif at + 10 > length:
            return -1
        else:
            at += 10 + (data[at + 8] << 8 | data[at + 9])
    return at if at <= length else -1
