"""Whose fault it is that a query came to nothing, as far as the system tells."""

from __future__ import annotations

import errno

from rdnscache.errors import LOCAL, UNREACHABLE, UpstreamFailed

#: Before anything has left, every error but these is ours: no descriptor, no memory, no port, no route, not allowed.
_REFUSALS = (errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EPIPE)
#: Afterwards these are.
_OURS = (errno.ENOBUFS, errno.ENOMEM, errno.ENETDOWN)


def failure_of(server: object, error: OSError, begun: bool) -> UpstreamFailed:
    """Of asking `server`; `begun`: something has left for it."""
    ours = error.errno in _OURS if begun else error.errno not in _REFUSALS
    return UpstreamFailed(f"{server}: {error.strerror or error}", why=LOCAL if ours else UNREACHABLE)
