"""A Lua script as Redis is told of it."""

from __future__ import annotations

import hashlib


class Script:
    """A Lua script, the digest Redis knows it by, and how many keys it is run on."""

    def __init__(self, source: bytes, keys: int = 4) -> None:
        self.source = source
        self.keys = b"%d" % keys
        self.sha = hashlib.sha1(source).hexdigest().encode()
