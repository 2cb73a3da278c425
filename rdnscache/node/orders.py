"""Orders to the supervisor, `reload` and `restart`: each carried out once, and how the last one of them ended.

What is told goes on the board, from where workers bring it to who ordered it, and into their reports.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

#: Orders that come through Redis: how many are remembered, and the least seconds between two that are obeyed.
ORDERS_KEPT, ORDER_PAUSE = 100, 1.0
#: Of orders carried out together, those that are answered; characters of a reason; options that are named.
ANSWERED, LONGEST_REASON, MOST_NAMED = 20, 500, 50


class Orders:
    def __init__(self) -> None:
        #: Those that were carried out, `reload 1764-0`, and when the next may be.
        self.done: deque[str] = deque(maxlen=ORDERS_KEPT)
        self._next = 0.0
        #: By what they order: events that have been heard and not yet answered.
        self.events: dict[str, deque[str]] = {}
        #: Options that have changed and wait for a restart.
        self.waiting: list[str] = []

    def take(self, words: deque[str]) -> list[str]:
        """What is to be done of all that workers have passed on: each of them does, for every order."""
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
        """How it ended, for the board: carried out unless there is a problem."""
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
        """From the image before, which has carried these out and was about to do the last."""
        self.done.extend(done)
        self.events[what] = deque(events, maxlen=ANSWERED)
