"""DNS messages in a stream of octets, each after its length (RFC 1035 section 4.2.2). Pure."""

from __future__ import annotations


class Frames:
    """Takes octets in pieces of any size, returns complete messages."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        #: Pieces received since, and how many octets are missing until there is a length or a message.
        self._pieces: list[bytes] = []
        self._missing = 2

    def feed(self, data: bytes) -> None:
        """Add octets; they are neither read nor moved before there is a complete message."""
        self._missing -= len(data)
        self._pieces.append(data)

    def next(self) -> bytes | None:
        """The next message; None if it is not complete yet."""
        if self._pieces:
            if self._missing > 0:
                return None
            self._data = b"".join((self._data[self._at :], *self._pieces))
            self._at = 0
            self._pieces.clear()
        data, start = self._data, self._at + 2
        left = len(data) - start
        if left >= 0:
            end = start + (data[start - 2] << 8 | data[start - 1])
            if end <= len(data):
                self._at = end
                return data[start:end]
            left -= end - start
        self._missing = -left
        return None


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message
