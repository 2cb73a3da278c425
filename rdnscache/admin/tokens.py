"""Access to the admin port: tokens, and a limit for guessing them."""

from __future__ import annotations

import base64
import hmac

#: Wrong tokens after which a client has to wait, and the seconds over which they count; most clients remembered.
ATTEMPTS, ATTEMPT_TIME, CLIENTS_KEPT = 10, 60.0, 1024


def shown_token(authorization: str, basic: bool) -> bytes:
    """The token in a header: `Bearer TOKEN`, or with `basic` also the password of `Basic`; empty when there is none."""
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
    """Whether it is one of the configured tokens; compared in constant time."""
    return sum(hmac.compare_digest(given, token) for token in tokens if token) > 0  # all of them are compared


class Attempts:
    """Wrong tokens by client: after a few, a client's tokens are not checked until a minute has passed."""

    def __init__(self) -> None:
        #: By client: the end of the minute, and the number of wrong tokens in it.
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
