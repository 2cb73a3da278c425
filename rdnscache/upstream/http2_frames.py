"""Octets of HTTP/2 cut into whole frames (RFC 9113 section 4.1), with GOAWAY taken out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: Octets of a frame that a server may send where nothing else has been said (RFC 9113 section 6.5.2).
MAX_FRAME = 1 << 14
_HEAD, _GOAWAY, _MOST_STREAMS = 9, 7, (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Farewell:
    """GOAWAY: streams above `last` have not been looked at and will not be; those up to it may still be answered."""

    last: int
    code: int


class Frames:
    """Takes octets in whatever pieces they come, gives groups of whole frames."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def feed(self, data: bytes) -> None:
        self._data = self._data[self._at :] + data
        self._at = 0

    def next(self, most: int) -> bytes | Farewell | None:
        """At most this many frames in one piece, or a GOAWAY; None when more has to come first.

        ValueError for a frame that is too long, before its octets are there.
        """
        data, start = self._data, self._at
        at = start
        for _ in range(most):
            if len(data) - at < _HEAD:
                break
            size = int.from_bytes(data[at : at + 3], "big")
            if size > MAX_FRAME:
                if at == start:
                    raise ValueError(f"a frame of {size} octets")
                break
            end = at + _HEAD + size
            if end > len(data):
                break
            if data[at + 3] == _GOAWAY and size >= 8:
                return self._farewell(end) if at == start else self._cut(at)
            at = end
        return self._cut(at) if at > start else None

    def _cut(self, end: int) -> bytes:
        start, self._at = self._at, end
        return self._data[start:end]

    def _farewell(self, end: int) -> Farewell:
        frame = self._cut(end)
        last, code = (int.from_bytes(frame[at : at + 4], "big") for at in (_HEAD, _HEAD + 4))
        return Farewell(last & _MOST_STREAMS, code)
