"""HPACK (RFC 7541) with a memory: headers that are equal in many queries or responses are coded only once."""

from __future__ import annotations

from typing import Any

from hpack import Decoder, Encoder

#: The bit of a field that is an index into the tables (RFC 7541 section 6.1).
_INDEXED = 0x80
#: Maximum number of blocks remembered, and octets of the longest: there are few different ones at a time.
REMEMBERED, LONGEST = 64, 256


class RememberingEncoder(Encoder):
    """Reuses a block as long as it is valid: it changes no table, and none has changed since."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[Any, ...], bytes] = {}

    @property
    def header_table_size(self) -> int:
        """The size of the server's table."""
        return int(self.header_table.maxsize)

    @header_table_size.setter
    def header_table_size(self, size: int) -> None:
        """Set the size, if it differs: when it is set twice, hpack forgets to announce the change."""
        if size != self.header_table.maxsize:
            self.header_table.maxsize = size
            self.table_size_changes.append(size)
            self._known.clear()

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


class RememberingDecoder(Decoder):
    """Reuses the fields of a block as long as they are valid: it changes no table, and none has changed since."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[bytes, Any] = {}

    def decode(self, data: bytes, raw: bool = False) -> Any:
        """As in hpack; `raw` must be true."""
        found = self._known.get(data)
        if found is not None:
            return found
        entries = self.header_table.dynamic_entries
        before, first = self._sizes(), entries[0] if entries else None
        found = super().decode(data, raw)
        if before != self._sizes() or (entries and entries[0] is not first):  # a new entry comes first
            self._known.clear()
        elif len(data) <= LONGEST:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[data] = found
        return found

    def _sizes(self) -> tuple[int, int]:
        return self.header_table.maxsize, len(self.header_table.dynamic_entries)
