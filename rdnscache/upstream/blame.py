"""Whose fault the failure of a query is: this host's, or the server's and the network's."""

from __future__ import annotations

import errno

from rdnscache.errors import LOCAL, UNREACHABLE, UpstreamFailed

#: Before anything is sent, all errors but these are ours: no descriptor, memory, port, route or permission.
_REFUSALS = (errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EPIPE)
#: After that only these are ours.
_OURS = (errno.ENOBUFS, errno.ENOMEM, errno.ENETDOWN)


def failure_of(server: object, error: OSError, begun: bool) -> UpstreamFailed:
    """The failure of a query to `server`; `begun`: something has been sent to it."""
    ours = error.errno in _OURS if begun else error.errno not in _REFUSALS
    return UpstreamFailed(f"{server}: {error.strerror or error}", why=LOCAL if ours else UNREACHABLE)
