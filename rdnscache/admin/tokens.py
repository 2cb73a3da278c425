"""Who may ask at the admin port: tokens, and how often somebody may guess."""

from __future__ import annotations

import base64
import hmac

#: Wrong tokens after which a client has to wait, and the seconds in which they count; clients that are remembered.
ATTEMPTS, ATTEMPT_TIME, CLIENTS_KEPT = 10, 60.0, 1024


def shown_token(authorization: str, basic: bool) -> bytes:
    """The token in a header: `Bearer TOKEN`, or with `basic` the password of `Basic` too; empty where there is none."""
    kind, _, rest = authorization.partition(" ")
    if kind.lower() == "bearer":
        return rest.strip().encode("latin-1", "replace")
    if basic and kind.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return b""


def is_one_of(given: bytes, *tokens: bytes) -> bool:
    """Whether it is one of the tokens that are set; how much of it is right cannot be told from the time this takes."""
    return sum(hmac.compare_digest(given, token) for token in tokens if token) > 0  # all of them are compared


class Attempts:
    """Wrong tokens by client: after a few, a client is not even looked at until a minute has passed."""

    def __init__(self) -> None:
        #: The end of the minute, and how many in it.
        self._wrong: dict[bytes, tuple[float, int]] = {}

    def wait(self, client: bytes, now: float) -> int:
        """Seconds until the client may try again."""
        end, count = self._wrong.get(client, (0.0, 0))
        return int(end - now) + 1 if count >= ATTEMPTS and now < end else 0

    def note(self, client: bytes, now: float) -> None:
        end, count = self._wrong.pop(client, (0.0, 0))
        self._wrong[client] = (end, count + 1) if now < end else (now + ATTEMPT_TIME, 1)
        if len(self._wrong) > CLIENTS_KEPT:
            del self._wrong[next(iter(self._wrong))]
