"""Whether this worker can reach a set of upstreams at all: when it cannot, other nodes are the better leaders."""

from __future__ import annotations

import logging

from rdnscache.errors import UpstreamFailed

log = logging.getLogger(__name__)

#: Failures of our own way to upstreams, and the seconds they are apart, without an answer in between, after which we do
#: not claim.
FAILURES_BEFORE_UNFIT, FAILING = 3, 1.0


class Fitness:
    """`whose` says in log lines which upstreams are meant: nothing for the usual ones, or ` of the zone corp.example.`.

    Moments are of the monotonic clock, in seconds.
    """

    def __init__(self, whose: str = "") -> None:
        self._whose = whose
        self._failures = 0
        self._failing_since = 0.0
        #: Whether that has been said.
        self._unfit = False
        #: Whether claims are left to others.
        self.stands_back = False

    def tried_all(self, asked: float, now: float) -> None:
        """Nobody could be reached in the first round, which began at `asked`: until one answers, others are to lead.

        A refusal proves less than silence: it may be a restart.
        """
        self.stands_back = self.stands_back or now - asked >= FAILING

    def failed(self, failure: UpstreamFailed, now: float) -> None:
        """Our own way to them failed. When it does again and again, claims are left to others."""
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if not self._unfit and self._failures >= FAILURES_BEFORE_UNFIT and now - self._failing_since >= FAILING:
            self._unfit = self.stands_back = True
            log.warning("no upstream%s can be reached from here: questions are left to other nodes until one can (%s)",
                        self._whose, failure)  # fmt: skip

    def answered(self) -> None:
        """One of them has answered."""
        if self._unfit:
            log.info("an upstream%s can be reached again: this node asks by itself again", self._whose)
        self._unfit = self.stands_back = False
        self._failures = 0
