"""Orders to the supervisor, `reload` and `restart`: each is carried out once, and the result of the last one is kept.

The result is put on the board, from where workers send it to whoever gave the order, and include it in their reports.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

#: Orders from Redis: how many are remembered, and the least seconds between two that are carried out.
ORDERS_KEPT, ORDER_PAUSE = 100, 1.0
#: Most orders carried out together that are answered; longest reason in characters; most options named.
ANSWERED, LONGEST_REASON, MOST_NAMED = 20, 500, 50


class Orders:
    def __init__(self) -> None:
        #: The orders carried out, such as `reload 1764-0`, and when the next one may be.
        self.done: deque[str] = deque(maxlen=ORDERS_KEPT)
        self._next = 0.0
        #: The events not yet answered, by what they order.
        self.events: dict[str, deque[str]] = {}
        #: Options that have changed and will take effect at a restart.
        self.waiting: list[str] = []

    def take(self, words: deque[str]) -> list[str]:
        """The orders to carry out among those passed on: all workers pass on every order."""
        if time.monotonic() < self._next or not words:
            return []
        self._next = time.monotonic() + ORDER_PAUSE
        found = []
        while words:
            word = words.popleft()
            what, _, event = word.partition(" ")
            if event and word not in self.done:
                self.done.append(word)
                self.events.setdefault(what, deque(maxlen=ANSWERED)).append(event)
                found.append(what)
        return found

    def answer(self, what: str, problem: str, note: str = "") -> bytes:
        """The result of an order, for the board: done, unless there is a problem."""
        told: dict[str, Any] = {
            "what": what,
            "events": list(self.events.pop(what, ())),
            "time": round(time.time(), 1),
            "refused": problem[:LONGEST_REASON],
            "note": note[:LONGEST_REASON],
            "waiting": self.waiting[:MOST_NAMED],
        }
        return json.dumps(told).encode()

    def inherit(self, done: Iterable[str], what: str, events: Iterable[str]) -> None:
        """Take over the orders of the previous image, which had carried these out and was about to do the last."""
        self.done.extend(done)
        self.events[what] = deque(events, maxlen=ANSWERED)
