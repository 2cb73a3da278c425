"""Whether this worker can reach a set of upstreams at all: if it cannot, other nodes should lead."""

from __future__ import annotations

import logging

from rdnscache.errors import UpstreamFailed

log = logging.getLogger(__name__)

#: Failures to reach upstreams, without an answer in between, and the seconds they have to span, after which this worker
#: makes no claims.
FAILURES_BEFORE_UNFIT, FAILING = 3, 1.0


class Fitness:
    """`whose` names the upstreams in log lines: empty for the usual ones, else like ` of the zone corp.example.`.

    Times are monotonic, in seconds.
    """

    def __init__(self, whose: str = "") -> None:
        self._whose = whose
        self._failures = 0
        self._failing_since = 0.0
        #: Whether the warning has been logged.
        self._unfit = False
        #: Whether this worker makes no claims.
        self.stands_back = False

    def tried_all(self, asked: float, now: float) -> None:
        """Note that no server was reached in the first round, which began at `asked`: make no claims until one answers.

        Not if that took less than `FAILING` seconds: servers that refuse at once may be restarting.
        """
        self.stands_back = self.stands_back or now - asked >= FAILING

    def failed(self, failure: UpstreamFailed, now: float) -> None:
        """Note a failure to reach them; after several, this worker makes no claims."""
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if not self._unfit and self._failures >= FAILURES_BEFORE_UNFIT and now - self._failing_since >= FAILING:
            self._unfit = self.stands_back = True
            log.warning("no upstream%s can be reached: questions are left to other nodes until one can (%s)",
                        self._whose, failure)  # fmt: skip

    def answered(self) -> None:
        """Note that one of them has answered."""
        if self._unfit:
            log.info("an upstream%s can be reached again: this node asks upstreams itself again", self._whose)
        self._unfit = self.stands_back = False
        self._failures = 0
