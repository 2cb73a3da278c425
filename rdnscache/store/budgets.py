"""This worker's part in the budgets of upstreams, which the cluster shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rdnscache.errors import StoreDown
from rdnscache.store.allotment import ALLOT, read_allotment
from rdnscache.store.contract import Names
from rdnscache.store.servers import Servers
from rdnscache.store.steering import WorkerId
from rdnscache.upstream.application import Applicant, Request


class Budgets:
    """Asks Redis for slots. A worker is known by node and number, so that a restarted node takes over its share."""

    def __init__(self, names: Names, worker_id: WorkerId, servers: Servers, noted: Callable[[Any], None]) -> None:
        self._names = names
        self._member = f"{worker_id.node}.{worker_id.worker}"
        self._servers = servers
        self._noted = noted
        #: The last applicant of each budget, by key.
        self._applicants: dict[bytes, Applicant] = {}

    def ask(self, request: Request, applicant: Applicant) -> bool:
        """Ask for slots; the applicant is called with the result. Returns False if Redis is not usable."""
        if not self._servers.usable():
            return False

        def told(result: Any) -> None:
            reply = result[0] if isinstance(result, list) else result
            found = read_allotment(reply)
            if found is not None:
                applicant.allotted(found)
            elif isinstance(reply, StoreDown):
                applicant.lost()
            else:
                self._servers.count_error()
                self._noted(reply)
                applicant.refused()

        key = self._names.budget(request.server)
        self._applicants[key] = applicant
        shares = (f"{request.rate:.6f}", self._member, f"{request.weight:.6f}", f"{request.share:.6f}")
        times = (round(request.lent * 1e6), request.count, round(request.ahead * 1e6))
        self._servers.run_later(ALLOT, told, key, *shares, *times)
        return True

    def detached(self) -> None:
        for applicant in self._applicants.values():
            applicant.lost()

    def leave(self) -> None:
        """Give this worker's shares back."""
        for key in self._applicants:
            self._servers.send((b"HDEL", key, self._member))
