"""A limit on the networks of clients for which a question is asked at the same time (RFC 7871)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rdnscache.dns.question import subnet, wider_key
from rdnscache.errors import LOCAL, UpstreamFailed

#: Maximum queries for one question at a time. A client can claim any number of networks, and each outstanding query
#: makes it easier to forge a reply (RFC 5452 section 5).
MOST = 16
#: Extended DNS Error: Not Ready (RFC 8914 section 4.15).
_NOT_READY = 14
_NOTHING = nullcontext()


class Crowd:
    """The questions that one worker is asking for networks of clients."""

    def __init__(self) -> None:
        self._asked: Counter[bytes] = Counter()

    def one_more(self, key: bytes) -> AbstractContextManager[None]:
        """A context in which a question is asked. Raises UpstreamFailed if that happens for `MOST` networks already."""
        return self._counted(wider_key(key)) if subnet(key) else _NOTHING

    @contextmanager
    def _counted(self, plain: bytes) -> Iterator[None]:
        if self._asked[plain] >= MOST:
            raise UpstreamFailed("it is being asked for too many networks", ede=_NOT_READY, why=LOCAL)
        self._asked[plain] += 1
        try:
            yield
        finally:
            self._asked[plain] -= 1
            if not self._asked[plain]:
                del self._asked[plain]
