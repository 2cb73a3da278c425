"""Headers that are the same in each query, compressed once (RFC 7541)."""

from __future__ import annotations

from typing import Any

from hpack import Encoder

#: The bit of a field that is all in the tables (RFC 7541 section 6.1).
_INDEXED = 0x80


class RememberingEncoder(Encoder):
    """Gives a block again while it stays true: it changes no table, and none has changed since."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[Any, ...], bytes] = {}

    def encode(self, headers: Any, huffman: bool = True) -> bytes:
        fields = tuple(headers)
        if not self.header_table.resized:
            known = self._known.get(fields)
            if known is not None:
                return known
        block = super().encode(fields, huffman)
        if len(block) == len(fields) and min(block) >= _INDEXED:  # an octet for each field: no field is new
            self._known[fields] = block
        else:
            self._known.clear()
        return block
