"""Splits octets of HTTP/2 into complete frames (RFC 9113 section 4.1), and takes GOAWAY out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: Maximum octets of a frame, the default of SETTINGS_MAX_FRAME_SIZE (RFC 9113 section 6.5.2).
MAX_FRAME = 1 << 14
_HEAD, _GOAWAY, _MOST_STREAMS = 9, 7, (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Farewell:
    """GOAWAY: streams above `last` are not and will not be processed; those up to it may still be answered."""

    last: int
    code: int


class Frames:
    """Takes octets in pieces of any size, returns groups of complete frames."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def feed(self, data: bytes) -> None:
        self._data = self._data[self._at :] + data
        self._at = 0

    def next(self, most: int) -> bytes | Farewell | None:
        """The octets of up to `most` frames, or a GOAWAY; None if no frame is complete.

        Raises ValueError for a frame that is too long as soon as its head has arrived.
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
