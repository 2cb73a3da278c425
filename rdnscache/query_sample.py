"""The latest sampled queries of a worker, in memory shared by its node: any worker can search all of them.

A ring of slots of fixed size with one writer. A slot begins with a number that is odd while it is being written.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple

#: How many queries of each worker are kept.
KEPT = 1000
#: Longest name on the wire.
_NAME = 255
_FORM = struct.Struct(f"<dfHHhBBB16sB{_NAME}s")
_HEAD = 8
_SIZE = _HEAD + _FORM.size


class Sampled(NamedTuple):
    """A query and its outcome. `client` may be a part of its address, or empty; `name` is in wire form."""

    time: float
    ms: float
    qtype: int
    rcode: int
    #: The client's view; -1 when there are no views, or the client is not allowed.
    group: int
    layer: int
    stream: bool
    client: bytes
    name: bytes


class QueryRing:
    """Created by the supervisor for each worker; a worker's successor continues where it ended."""

    def __init__(self) -> None:
        # 8 octets: how many have been written; then the slots
        self._memory = mmap.mmap(-1, _HEAD + KEPT * _SIZE)

    def write(self, each: Sampled) -> None:
        (number,) = struct.unpack_from("<Q", self._memory, 0)
        at = _HEAD + number % KEPT * _SIZE
        (version,) = struct.unpack_from("<Q", self._memory, at)
        version |= 1
        struct.pack_into("<Q", self._memory, at, version)
        _FORM.pack_into(
            self._memory, at + _HEAD, each.time, each.ms, each.qtype, each.rcode, each.group, each.layer, each.stream,
            len(each.client), each.client, len(each.name), each.name,
        )  # fmt: skip
        struct.pack_into("<Q", self._memory, at, version + 1)
        struct.pack_into("<Q", self._memory, 0, number + 1)

    def read(self) -> Iterator[Sampled]:
        """The queries, newest first, without those overwritten while reading."""
        (number,) = struct.unpack_from("<Q", self._memory, 0)
        for place in range(number - 1, max(number - KEPT, 0) - 1, -1):
            at = _HEAD + place % KEPT * _SIZE
            head = self._memory[at : at + _HEAD]
            raw = self._memory[at + _HEAD : at + _SIZE]
            if head[0] & 1 or self._memory[at : at + _HEAD] != head:
                continue
            time, ms, qtype, rcode, group, layer, stream, length, client, size, name = _FORM.unpack(raw)
            yield Sampled(time, ms, qtype, rcode, group, layer, bool(stream), client[:length], name[:size])
