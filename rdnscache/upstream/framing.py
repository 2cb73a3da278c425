"""DNS messages in a stream of octets, each behind its length (RFC 1035 section 4.2.2). Pure."""

from __future__ import annotations


class Frames:
    """Takes octets in whatever pieces they come, gives whole messages."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        #: Pieces that came since, and how many octets are missing until it is worth a look.
        self._pieces: list[bytes] = []
        self._missing = 2

    def feed(self, data: bytes) -> None:
        """`data` has come; nothing is looked at, or moved, before there is a whole message."""
        self._missing -= len(data)
        self._pieces.append(data)

    def next(self) -> bytes | None:
        """The next message; None when it is not there yet."""
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
