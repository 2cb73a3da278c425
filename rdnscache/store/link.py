"""One multiplexed RESP3 connection to Redis for a whole worker.

A greenlet opens it (see `connection`); from then on the commands of all greenlets are written once per turn of the hub,
and replies are handed out in order from the hub: 2 to 5 microseconds a command, where a pool takes over 100.
Wake-ups and control events arrive on the same connection as push messages.

When the oldest command has not been answered for longer than the timeout, the link is given up as a whole. Every
waiting greenlet gets StoreDown, exactly once; nothing is sent again.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent import getcurrent
from gevent.event import Event

from rdnscache.errors import StoreDown
from rdnscache.store.breaker import ALWAYS_FINE
from rdnscache.store.connect import CONNECT_TIMEOUT, Opener
from rdnscache.store.packing import pack
from rdnscache.store.pipe import UNSENT, Pipe
from rdnscache.store.resp import Reader
from rdnscache.store.servers import Command, LinkEvents, LinkSettings

log = logging.getLogger(__name__)

#: Seconds between attempts to connect: doubled from the first to the last, with a fifth of jitter.
FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0
PING_INTERVAL = 1.0
#: Seconds within which a connection must be open, however many servers are asked; each octet may take CONNECT_TIMEOUT.
OPEN_TIMEOUT = 5.0
#: The factor by which the longest recent time of Redis is reduced with each PING.
KEPT = 0.9


class Link(Pipe):
    """Keeps one connection open; `events` is told of its state and messages."""

    def __init__(self, opener: Opener, settings: LinkSettings, events: LinkEvents) -> None:
        super().__init__()
        self.attached = False
        #: Seconds that `ask` waits: if Redis answers other commands meanwhile (budget), and if it is silent (patience).
        self.budget = self.patience = settings.budget
        #: Minimum of `patience`: no upstream would have answered before.
        self.least_patience = ALWAYS_FINE
        self._longest = settings.budget
        #: Seconds by which the hub is late, which are not counted against Redis.
        self.lag = 0.0
        #: How often the link has been given up.
        self.detachments = 0
        #: Seconds that the answer took which `ask` has returned last.
        self.took = 0.0
        #: Seconds the last PING took.
        self.latency = 0.0
        self._opener = opener
        self._client_name = settings.client_name
        self._channels = settings.channels
        self._timeout = settings.timeout
        self._events = events
        #: When the calls of `ask` that are still waited for are checked next (monotonic).
        self._due = 0.0
        self._ticker: Any = None
        self._subscribed = 0
        self._reason = ""
        self._ready = Event()
        self._ended = Event()
        #: Set when the next attempt need not wait.
        self._hurry = Event()
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        self._greenlet = gevent.spawn(self._keep)
        self._opener.watch(self._moved)

    def close(self) -> None:
        """Send the queued commands, then close for good."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
        self._opener.close()
        self._send_queued()
        self._detach("closing")

    def let_go(self, reason: str) -> None:
        """Give up a server that is no longer a primary, if another attempt may find one."""
        if self._opener.movable:
            self.give_up(reason)

    def give_up(self, reason: str) -> None:
        """Close the connection; a new one is opened and attached from the beginning."""
        if self._stream is not None:
            self._detach(reason)

    def _moved(self, reason: str) -> None:
        self.let_go(reason)
        self._hurry.set()

    def request(self, *commands: Command) -> list[Any]:
        """Send commands and wait for their replies; an error reply is a `hiredis.ReplyError` among them.

        Raises StoreDown when the link is not attached, or is lost before the last reply.
        """
        if not self.attached:
            raise StoreDown("not attached")
        return self._request(commands)

    def ask(self, late: Callable[[Any], None], commands: tuple[Command, ...]) -> list[Any] | None:
        """As `request`, but waits a short time only; returns None after that.

        Then `late(replies)` is called in the hub if they arrive after all, else `late(StoreDown)`.
        """
        if not self.attached:
            raise StoreDown("not attached")
        if self._is_full():
            raise StoreDown("too many commands are waiting")
        call = self._enqueue(commands, getcurrent().switch, UNSENT)
        call.late = late
        self._asked.append(call)
        self._fresh.append(call)
        started = time.monotonic()
        if self._ticker is None:
            self._tick_at(started + self.patience)
        try:
            result = self._hub.switch()
        except BaseException:
            call.done = None
            raise
        if isinstance(result, StoreDown):
            raise result
        self.took = time.monotonic() - started
        if result is not None:
            self.learn(max(self.took - self.lag, 0.0))
        return result  # type: ignore[no-any-return]

    def learn(self, seconds: float) -> None:
        """Note that Redis took `seconds` to answer. A silent one is waited for twice its longest recent time."""
        if seconds > self._longest or self._longest > self.budget:
            self._longest = min(max(seconds, self._longest), self.budget)
        self.patience = min(max(2 * self._longest, self.least_patience), self.budget)

    def _tick_at(self, moment: float) -> None:
        self._due = moment
        self._ticker = self._hub.loop.timer(max(moment - time.monotonic(), 0.0))
        self._ticker.start(self._tick)

    def _tick(self) -> None:
        """Return None to callers of `ask` that have waited long enough, after handing out what has arrived."""
        self._ticker.close()
        self._ticker = None
        self.lag += (max(time.monotonic() - self._due, 0.0) - self.lag) / 8
        if self._stream is not None:
            self._stream.read()
        if self._paused:
            self._hand_out_rest()
        asked = self._asked
        while asked:
            call, now = asked[0], time.monotonic()
            over = call.at + (self.patience if self._heard < call.at else self.budget)
            if over > now:
                if self._ticker is None:
                    self._tick_at(min(over, now + self.patience))
                return
            asked.popleft()
            waiting, call.done = call.done, call.late
            self._hand_over(waiting, None)

    def send(self, command: Command, done: Callable[[Any], None] | None = None) -> None:
        """Send without waiting; `done` is called in the hub with a list of one reply, or a StoreDown."""
        if self.attached and not self._is_full():
            self._enqueue((command,), done, time.monotonic())
        elif done is not None:
            done(StoreDown("not attached"))

    def tell(self, command: Command) -> None:
        """Send if there is a connection, even if it is not attached; the reply is dropped."""
        if self._stream is not None and not self._is_full():
            self._enqueue((command,), None, time.monotonic())

    def _request(self, commands: Sequence[Command]) -> list[Any]:
        if self._is_full():
            raise StoreDown("too many commands are waiting")
        call = self._enqueue(commands, getcurrent().switch, time.monotonic())
        try:
            result = self._hub.switch()
        finally:
            call.done = None  # replies are matched by position, so the call stays in the queue
        if isinstance(result, StoreDown):
            raise result
        replies: list[Any] = result
        return replies

    def _pushed(self, message: Sequence[Any]) -> None:
        if message[:1] == [b"message"] and len(message) == 3 and isinstance(message[1], bytes):
            payload = message[2] if isinstance(message[2], bytes) else b""  # too large to be from a node
            try:
                self._events.pushed(message[1], payload)
            except Exception:
                log.exception("a message from Redis could not be handled")
        elif message[:1] == [b"subscribe"]:
            self._subscribed += 1
            if self._subscribed == len(self._channels):
                self._ready.set()

    def _keep(self) -> None:
        """Attach, watch the connection, and attach again, for ever."""
        pause, reported = FIRST_PAUSE, ""
        while True:
            attached_at = None
            self._hurry.clear()
            try:
                self._attach()
                log.info("attached to Redis%s", self._opener.name)
                attached_at, reported = time.monotonic(), ""
                self._watch()
            except Exception as error:  # whatever it is: without this greenlet Redis would never be used again
                self._detach(str(error) or type(error).__name__)
            if self._reason != reported:
                log.warning("no Redis%s, carrying on without: %s", self._opener.name, self._reason)
                reported = self._reason
            if attached_at is not None and time.monotonic() - attached_at > LAST_PAUSE:
                pause = FIRST_PAUSE
            self._hurry.wait(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, LAST_PAUSE)

    def _attach(self) -> None:
        self._ended.clear()
        self._ready.clear()
        self._subscribed = 0
        self._reader = Reader()
        with gevent.Timeout(OPEN_TIMEOUT, StoreDown("the connection could not be opened in time")):
            self._stream = self._opener.open(self._client_name, self._received, self._detach)
        self._events.opened()
        if self._channels:
            self._unsent.append(pack((b"SUBSCRIBE", *self._channels)))
            self._send_queued()
            if not self._ready.wait(CONNECT_TIMEOUT):
                raise StoreDown("Redis did not confirm the subscription")
        self._events.attaching()
        if self._stream is None:
            raise StoreDown("lost while attaching")
        self.attached = True

    def setup(self, *commands: Command) -> list[Any]:
        """As `request`, for `attaching` only."""
        with gevent.Timeout(CONNECT_TIMEOUT, StoreDown("Redis did not answer in time")):
            return self._request(commands)

    def _watch(self) -> None:
        """Return when the connection has ended; raise StoreDown if Redis does not answer."""
        next_ping = 0.0
        while not self._ended.wait(self._timeout / 2):
            if self._overdue() and self._stream is not None:
                # perhaps this worker was slow; done in the hub, since reading switches to waiting greenlets
                self._hub.loop.run_callback(self._send_queued)
                self._hub.loop.run_callback(self._stream.read)
                gevent.sleep(self._timeout / 4)
                if self._overdue():
                    raise StoreDown(f"no answer for {self._timeout * 1000:.0f} ms")
            now = time.monotonic()
            if now >= next_ping:
                self.send((b"PING",), lambda reply, sent=now: self._pong(reply, sent))  # type: ignore[misc]
                next_ping = now + PING_INTERVAL
                self._longest *= KEPT
                self.learn(0.0)

    def _pong(self, reply: Any, sent: float) -> None:
        if not isinstance(reply, StoreDown):
            self.latency = time.monotonic() - sent

    def _overdue(self) -> bool:
        return bool(self._pending) and time.monotonic() - self._pending[0].at > self._timeout

    def _detach(self, reason: str) -> None:
        """Close the connection and fail all commands that wait."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self.detachments += self.attached
        self.attached = False
        self._reason = reason
        self._clear()
        pending, self._pending = self._pending, deque()
        for call in dict.fromkeys(pending):
            self._hub.loop.run_callback(self._finish, call, StoreDown(reason))
        self._hub.loop.run_callback(self._events.detached)
        self._ended.set()
