"""The input and output of a link: commands are written once per turn of the hub, replies go to their callers."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from gevent import get_hub

from rdnscache.store.connect import AnyStream
from rdnscache.store.packing import pack
from rdnscache.store.resp import MORE, Push, Reader
from rdnscache.store.servers import Command

log = logging.getLogger(__name__)

#: The time of sending of a call that has not been sent yet.
UNSENT = 1e300
#: Unanswered commands, and unsent octets of commands, beyond which the link refuses more.
MAX_PENDING, MAX_UNSENT = 20_000, 8 << 20
#: Seconds for which replies are handed out before others get their turn.
TURN = 0.002


class Call:
    """Commands that are sent together, and their replies; without `done` the replies are dropped."""

    __slots__ = ("at", "done", "late", "left", "replies")

    def __init__(self, count: int, done: Callable[[Any], None] | None, at: float) -> None:
        self.left = count
        self.done = done
        #: Replaces `done` once the caller has stopped waiting.
        self.late: Callable[[Any], None] | None = None
        self.replies: list[Any] = []
        self.at = at


class Pipe:
    """Commands and replies over one stream, in order. The link opens and closes the stream."""

    def __init__(self) -> None:
        #: The number of commands sent so far.
        self.commands = 0
        self._hub = get_hub()
        self._stream: AnyStream | None = None
        self._reader: Reader | None = None
        #: Whether the rest of the replies is handed out in the next turn of the hub, and the timer for that.
        self._paused = False
        self._next_turn = self._hub.loop.timer(0)
        #: Commands to be sent at the end of this turn of the hub, and their octets.
        self._unsent: list[bytes] = []
        self._octets = 0
        self._pending: deque[Call] = deque()
        #: The calls of `Link.ask` that are still waited for, in order; and those of them that are not sent yet.
        self._asked: deque[Call] = deque()
        self._fresh: list[Call] = []
        self._heard = 0.0

    def _is_full(self) -> bool:
        """Whether a limit of waiting commands or octets is reached."""
        stream = self._stream
        waiting = self._octets + (stream.unsent if stream is not None else 0)
        return len(self._pending) >= MAX_PENDING or waiting >= MAX_UNSENT

    def _enqueue(self, commands: Sequence[Command], done: Callable[[Any], None] | None, moment: float) -> Call:
        self.commands += len(commands)
        call = Call(len(commands), done, moment)
        if not self._unsent:
            self._hub.loop.run_callback(self._send_queued)
        for command in commands:
            packed = pack(command)
            self._octets += len(packed)
            self._unsent.append(packed)
            self._pending.append(call)
        return call

    def _send_queued(self) -> None:
        if self._unsent and self._stream is not None:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._octets = 0
            now = time.monotonic()
            for call in self._fresh:
                call.at = now
            self._fresh.clear()
            self._stream.write(data)

    def _received(self, data: bytes) -> None:
        """Take octets that have arrived. Runs in the hub."""
        self._heard = time.monotonic()
        if self._reader is not None:
            self._reader.feed(data)
            if not self._paused:
                self._hand_out()

    def _hand_out(self) -> None:
        """Hand out replies and messages; greenlets woken here run until they wait again."""
        reader, begun = self._reader, time.monotonic()
        try:
            while reader is not None and reader is self._reader:
                reply = reader.gets()
                if reply is MORE:
                    return self._pause(False)
                if isinstance(reply, Push):
                    self._pushed(reply)
                elif self._pending:
                    self._deliver(reply)
                else:
                    self._detach(f"an unexpected reply ({type(reply).__name__})")
                if time.monotonic() - begun >= TURN:
                    return self._pause(True)
        except Exception as error:  # not RESP; raised in a callback it would leave the link deaf
            self._detach(f"its reply cannot be read: {error}")
        return None

    def _pause(self, paused: bool) -> None:
        """Stop reading, and hand out the rest in the next turn of the hub; or go on reading."""
        if paused == self._paused or self._stream is None:
            return
        self._paused = paused
        if paused:
            self._stream.pause()
            self._next_turn.start(self._hand_out_rest)
        else:
            self._stream.resume()

    def _hand_out_rest(self) -> None:
        self._next_turn.stop()
        self._pause(False)
        self._hand_out()

    def _deliver(self, reply: Any) -> None:
        call = self._pending.popleft()
        call.replies.append(reply)
        call.left -= 1
        if call.left == 0:
            if self._asked and self._asked[0] is call:
                self._asked.popleft()
            elif call.late is not None:  # its caller has stopped waiting
                self.learn(time.monotonic() - call.at)
            self._hand_over(call.done, call.replies)

    def _finish(self, call: Call, result: Any) -> None:
        self._hand_over(call.done, result)

    @staticmethod
    def _hand_over(done: Callable[[Any], None] | None, result: Any) -> None:
        if done is None:
            return
        try:
            done(result)
        except Exception:  # else the calls after it would hang
            log.exception("a callback of the Redis link failed")

    def _clear(self) -> None:
        """Forget the state of a stream that has ended."""
        self._reader = None
        self._paused = False
        self._next_turn.stop()
        self._unsent.clear()
        self._octets = 0
        self._asked.clear()
        self._fresh.clear()

    def learn(self, seconds: float) -> None:
        """Note that Redis took `seconds` to answer."""

    def _pushed(self, message: Sequence[Any]) -> None:
        """Handle a push message."""

    def _detach(self, reason: str) -> None:
        """Give up the stream."""
