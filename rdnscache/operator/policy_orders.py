"""Operators' orders about names for the whole cluster: changed in Redis, announced, and confirmed by all workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rdnscache.errors import ConfigError
from rdnscache.operator.announcer import Announcer
from rdnscache.operator.entries import Browser
from rdnscache.operator.members import Members
from rdnscache.operator.proof import Proof
from rdnscache.operator.redis_clients import redis_errors
from rdnscache.store.policy_document import (
    LONGEST_DOCUMENT,
    REPLACE,
    PolicyDocument,
    policy_key,
    read_document,
    sealed,
)

#: How often a change is retried because of a simultaneous change.
ATTEMPTS = 20
#: The event that is announced.
EVENT = {"event": "policy"}

Changes = Callable[[PolicyDocument], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class PolicyOrders:
    """Every method raises StoreDown when Redis cannot be used. `patience`: seconds for the workers to confirm."""

    browser: Browser
    members: Callable[[], Members]
    patience: float

    def read(self) -> tuple[bytes, PolicyDocument]:
        """The value in Redis, raw and parsed; an empty document when it cannot be parsed or is not signed as
        required."""
        with redis_errors():
            raw: Any = self.browser.redis.getrange(policy_key(self.browser.names), 0, LONGEST_DOCUMENT)
        try:
            return raw, read_document(raw, policy_key(self.browser.names), self.browser.seal)
        except ValueError:
            return raw, PolicyDocument()

    def change(self, changes: Changes, prove: bool = True) -> tuple[PolicyDocument, Proof]:
        """Change some fields; returns the previous document, and the confirmations, which are awaited only with
        `prove`.

        Raises ValueError when the result would exceed the limits, ConfigError when nodes would not accept it.
        """
        for _ in range(ATTEMPTS):
            raw, before = self.read()
            if self.browser.seal is None and b"\n" in raw:
                raise ConfigError("the nodes have a secret: an order needs it, with --secret")
            if self._replaced(before.next(time.time(), **changes(before)), raw):
                if prove:
                    return before, Announcer(self.members(), self.patience).once(EVENT)
                self.members().announce(EVENT)
                return before, Proof()
        raise ConfigError("others keep changing the cluster's policy at the same moment: try again")

    def restore(self, raw: bytes, instead_of: bytes) -> tuple[bytes, PolicyDocument]:
        """Restore a copy in a Redis that has lost the document, or has one that is not accepted. Returns the current
        one."""
        try:
            kept = read_document(raw, policy_key(self.browser.names), self.browser.seal)
        except ValueError:
            return b"", PolicyDocument()
        if self._replaced(kept.next(time.time()), instead_of):
            self.members().announce(EVENT)
        return self.read()

    def _replaced(self, document: PolicyDocument, raw: bytes) -> bool:
        """Replace it unless it has changed meanwhile; returns whether it was replaced."""
        key = policy_key(self.browser.names)
        value = sealed(document, key, self.browser.seal)
        with redis_errors():
            return bool(self.browser.redis.eval(REPLACE.source.decode(), 1, key, value, raw))
