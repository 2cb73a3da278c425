"""For how many networks of clients a question is asked at a time (RFC 7871)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rdnscache.dns.question import subnet, wider_key
from rdnscache.errors import LOCAL, UpstreamFailed

#: Clients choose what their network is, so one could have a name asked for any number of them: each query on its way is
#: one more that a forged reply may hit (RFC 5452 section 5).
MOST = 16
#: Extended DNS Error: Not Ready (RFC 8914 section 4.15).
_NOT_READY = 14
_NOTHING = nullcontext()


class Crowd:
    """Of one worker."""

    def __init__(self) -> None:
        self._asked: Counter[bytes] = Counter()

    def one_more(self, key: bytes) -> AbstractContextManager[None]:
        """While its question is asked. Raises UpstreamFailed where that is for enough networks already."""
        return self._counted(wider_key(key)) if subnet(key) else _NOTHING

    @contextmanager
    def _counted(self, plain: bytes) -> Iterator[None]:
        if self._asked[plain] >= MOST:
            raise UpstreamFailed("it is asked for too many networks", ede=_NOT_READY, why=LOCAL)
        self._asked[plain] += 1
        try:
            yield
        finally:
            self._asked[plain] -= 1
            if not self._asked[plain]:
                del self._asked[plain]
