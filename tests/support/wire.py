"""Records octet by octet, for messages that no library would make."""

from __future__ import annotations

import struct


def record(owner: bytes, rtype: int, data: bytes, rclass: int = 1, ttl: int = 60) -> bytes:
    return owner + struct.pack("!HHIH", rtype, rclass, ttl, len(data)) + data
