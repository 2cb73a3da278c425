"""The pool of greenlets that run flights, and the rules by which flights share it.

Greenlets are reused, because starting one costs more than everything else a miss does. They are started on demand, up
to a limit, and kept while there is work for them. When all are busy, a flight has to be given up for a new one (unbound
calls this jostling). While some client or zone is greedy, a flight of another one begins at once, and the oldest flight
of the greediest is given up for it. All other flights queue for the next free greenlet, or for that of a flight which
has lasted too long. Every second flight is firm and may last as long as it needs: so half of the greenlets bring
answers, however slow an upstream is.

When even the fastest answers take longer than before, questions queue at the upstreams, or here for the CPU, and those
of other clients would wait behind those of the greedy. Then flights of the greediest queue before all greenlets are
busy: beyond the window, which follows the delay and is large enough to keep upstreams busy without a queue.
When flights begin late, this machine is short of CPU: then the greediest get no new flights at all until it recovers.
Flights are counted by client and zone only while there are many of them: below that they are not in each other's way.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub, getcurrent

from rdnscache import clock
from rdnscache.clients.shares import Holder, Line, Share, Shares, zone_of
from rdnscache.kernel import give_memory_back
from rdnscache.outcomes import SHED_CROWDED, SHED_LATE

log = logging.getLogger(__name__)

#: Seconds after which a flight may be given up: when others are queued; when its client has too many queries waiting.
LONG, LONGER = 0.5, 2.0
#: Seconds a flight may queue for a greenlet: after that its clients have asked again or are gone.
MAX_QUEUED = 1.0
#: The delay the window aims at, and the interval between two adjustments, in seconds; it grows by one GROWTH-th at
#: each, and is never smaller than one LEAST-th of the greenlets.
DELAY, LOOK, GROWTH, LEAST = 0.02, 0.05, 16, 16
#: Seconds between two looks at the queue; maximum number of flights taken from it each time.
TICK, TICKED = 0.05, 64
#: Tasks (or half of the greenlets, if fewer) above which they are counted; counting ends when half of them are left.
CROWD = 250
#: The machine is short of CPU when flights begin LATE seconds late, on average over the last MEMORY of them, and have
#: done so for LASTING seconds: queries that waited in the kernel while the process was stopped take less than that.
LATE, MEMORY, LASTING = 0.01, 32, 1.0
NEVER = 1e300
#: Seconds between two log lines about flights given up.
WARNINGS_APART = 10.0
#: Idle greenlets that are kept; each one takes 30 KiB.
KEPT = 32
#: Seconds after which greenlets that were idle all the time end; how many at once at most; after how many the free
#: memory is returned to the system.
IDLE_TIME, MOST_ENDED, MANY = 1.0, 200, 128


class GivenUp(BaseException):
    """Thrown into the greenlet of a flight that is given up."""


class Task(Holder):
    """Work for a greenlet. `since` (created) and `began` are times of `clock.now`, in seconds."""

    __slots__ = ("began", "client", "flyer", "key", "since", "up", "zone")

    def __init__(self, key: bytes, since: float, client: bytes) -> None:
        super().__init__()
        self.key = key
        self.since = since
        #: When it was given a greenlet.
        self.began = since
        #: The prefix of the client that asked first, for whom it counts whoever joins; empty for our own questions.
        self.client = client
        #: The result of `zone_of`, once it is needed.
        self.zone = b""
        #: True until the waiting clients are answered. Its greenlet may still have something to store after that.
        self.up = True
        #: The greenlet that runs it.
        self.flyer: Any = None


def _unknown(now: float) -> float:
    return -1.0


class Crew:
    """`size` greenlets at most, which run tasks with `fly`.

    `shed` answers the clients of a task that is given up, with one of outcomes.SHED_REASONS. `delay` returns, for a
    time, by how many seconds the fastest answers come later than before; negative if unknown.
    """

    def __init__(
        self,
        fly: Callable[[Any], None],
        shed: Callable[[Any, int], None],
        size: int,
        delay: Callable[[float], float] = _unknown,
    ) -> None:
        self._fly = fly
        self._shed = shed
        self._delay = delay
        self._size = size
        #: With more flights than this, new ones of the greediest queue; and when it is adjusted next.
        self._window = size
        self._next_look = 0.0
        self._crew: set[gevent.Greenlet] = set()
        #: The switch methods of idle greenlets; the last one is used first.
        self._idle: list[Any] = []
        #: How many have been idle since the last check; how many have ended since memory was returned.
        self._spare = 0
        self._ended = 0
        self._checking_idle = False
        #: Tasks that have a greenlet or are about to get one, in the order in which they began.
        self._flying: dict[Task, None] = {}
        self._called: deque[Task] = deque()
        self._line = Line()
        self._hub = get_hub()
        self._ticker: Any = None
        self._shares = Shares(size)
        self._counting = False
        self._crowd = min(CROWD, size // 2)
        #: Whether many queries wait, perhaps on few flights: another reason to count.
        self.pressed = False
        #: Whether the last task that began is firm.
        self._firm = True
        self._next_warning = 0.0
        #: By how many seconds flights begin late, averaged while counting; when it was measured last, and since when it
        #: has been too much.
        self._lag = 0.0
        self._lag_seen = 0.0
        self._behind_since = NEVER

    def refuses(self, client: bytes, key: bytes) -> bool:
        """Whether the CPU is short and the question is one of the greediest client or zone."""
        if not self._counting or clock.now() - self._behind_since < LASTING:
            return False
        greediest = self._shares.greediest()
        return greediest is not None and greediest.means(client, zone_of(key))

    def start(self, task: Task, now: float) -> None:
        """Run a task on a greenlet, or queue it for one."""
        if not self._counting and len(self._flying) + len(self._line) >= self._crowd:
            self._count_all()
        if self._counting:
            self._count(task)
            self._adjust_window(now)
        if self._held_back(task):
            self._line.push(task, task.client)
            self._serve_later()
        elif self._has_room():
            self._run(task, now)
        elif (len(self._flying) < self._size and not self._line) or self._end_one_of_greediest(task, now):
            self._call(task, now)  # a greenlet is about to be free
        else:
            self._line.push(task, task.client)
            self._serve_later()
            self._serve(now, 1)

    def _has_room(self) -> bool:
        """Whether a greenlet is idle or may be started."""
        return len(self._idle) > 0 or len(self._crew) < self._size

    def _held_back(self, task: Task) -> bool:
        """Whether a task of the greediest has to queue because the window is full."""
        if len(self._flying) < self._window or not self._counting:
            return False
        greediest = self._shares.greediest()
        return greediest is not None and greediest.means(task.client, task.zone)

    def _adjust_window(self, now: float) -> None:
        """Fit the window to the delay: shrink it in proportion to an excess of delay, else let it grow a little."""
        if now < self._next_look:
            return
        if now - self._next_look > LASTING:
            self._window = self._size
        delay = self._delay(now)
        if delay > DELAY:
            self._window = max(int(len(self._flying) * max(DELAY / delay, 0.5)), self._size // LEAST)
        else:
            of = self._window if delay >= 0 else self._size // LEAST  # few answers: perhaps the window is too small
            self._window = min(self._window + of // GROWTH + 1, self._size)
        self._next_look = now + LOOK + max(delay, 0.0)  # until then answers still reflect the old window

    def _run(self, task: Task, now: float) -> None:
        """Run a task on an idle greenlet, or start one; `_has_room` must be true."""
        if self._idle:
            self._begin(task, now)
            self._hub.loop.run_callback(self._idle.pop(), task)
            self._spare = min(self._spare, len(self._idle))
            return
        self._call(task, now)
        self._crew.add(gevent.spawn(self._work))
        if len(self._crew) > KEPT and not self._checking_idle:
            self._check_idle()

    def press(self) -> None:
        """Note that many queries wait, so tasks are to be counted."""
        self.pressed = True
        if not self._counting:
            self._count_all()

    def give_up_oldest(self, now: float) -> bool:
        """Give up the oldest flight; False if it has not lasted `LONG`."""
        return self._end_if_long(self._shares.oldest(True), now, LONG)

    def give_up_oldest_of(self, client: bytes, key: bytes, now: float) -> bool:
        """Give up a client's oldest flight for a new question of that client; False if it has not lasted `LONGER`.

        If most of its flights are for another zone, the question may come from another host behind the same address:
        then the oldest of those flights is given up at once.
        """
        greediest = self._shares.greediest()
        elsewhere = greediest is not None and greediest.belongs_to(client) and not greediest.means(client, zone_of(key))
        if greediest is not None and elsewhere and self._end_if_any(greediest.oldest(True), now):
            return True
        return self._end_if_long(self._shares.oldest_of(client, False), now, LONGER)

    def _work(self) -> None:
        """The loop of a greenlet, one task after the other."""
        me = getcurrent()
        switch = me.switch
        task: Any
        while True:
            if self._called:
                task = self._called.popleft()
            elif self._line and not self._held_back(self._line.first()):
                task = self._line.pop()
                self._begin(task, clock.now())
            else:
                self._idle.append(switch)
                task = self._hub.switch()
                if task is None:  # there are more greenlets than needed
                    return
            if self._counting:
                self._note_lag(task, clock.now())
            if not task.up:  # it was given up before it began
                continue
            task.flyer = me
            try:
                self._fly(task)
            except GivenUp:
                pass
            finally:
                task.flyer = None
                self._finish(task)

    def _note_lag(self, task: Task, now: float) -> None:
        """Note how late a flight begins. Measurements of an earlier crowd are discarded."""
        if now - self._lag_seen > LASTING:
            self._lag, self._behind_since = 0.0, NEVER
        self._lag_seen = now
        self._lag += (now - task.began - self._lag) / MEMORY
        if self._lag < LATE:
            self._behind_since = NEVER
        elif self._behind_since == NEVER:
            self._behind_since = now

    def _check_idle(self) -> None:
        self._checking_idle = True
        timer = self._hub.loop.timer(IDLE_TIME, IDLE_TIME)
        timer.start(self._end_idle, timer)

    def _end_idle(self, timer: Any) -> None:
        """End the greenlets that were idle since the last check; `KEPT` stay."""
        count = min(self._spare, MOST_ENDED, len(self._crew) - KEPT)
        for switch in self._idle[: max(count, 0)]:
            self._crew.discard(switch.__self__)
            self._hub.loop.run_callback(switch, None)
            self._ended += 1
        del self._idle[: max(count, 0)]
        self._spare = len(self._idle)
        if count < MOST_ENDED and self._ended >= MANY:
            self._ended = 0
            self._hub.loop.run_callback(give_memory_back)  # when they have ended
        if len(self._crew) <= KEPT:
            self._checking_idle = False
            timer.close()

    def _call(self, task: Task, now: float) -> None:
        """Give a task the next free greenlet."""
        self._begin(task, now)
        self._called.append(task)

    def _begin(self, task: Task, now: float) -> None:
        task.began = now
        task.firm = self._firm = not self._firm
        self._flying[task] = None
        if self._counting:
            self._shares.enter(task)

    def _finish(self, task: Task) -> None:
        self._flying.pop(task, None)
        self._shares.remove(task)
        if self._counting and (len(self._flying) + len(self._line)) * 2 < self._crowd and not self.pressed:
            self._counting = False
            for other in (*self._flying, *self._line):
                self._shares.remove(other)

    def _count_all(self) -> None:
        self._counting = True
        for task in self._flying:
            self._count(task)
            self._shares.enter(task)
        for task in self._line:
            self._count(task)

    def _count(self, task: Task) -> None:
        if not task.zone:
            task.zone = zone_of(task.key)
        self._shares.add(task, task.client, task.zone)

    def _end_one_of_greediest(self, task: Task, now: float) -> bool:
        """Give up the oldest flight of the greediest for a task of others; returns whether that was done."""
        greediest = self._shares.greediest()
        if greediest is None:
            return False
        task.zone = zone_of(task.key)
        if greediest.means(task.client, task.zone):
            return False
        return self._end_if_any(greediest.oldest(True), now)

    def _end_overdue(self, now: float) -> bool:
        """Give up a flight that has lasted too long, whoever is next; returns whether that was done."""
        greediest = self._shares.greediest()
        oldest = self._shares.oldest(False) if greediest is None else greediest.oldest(False)
        return self._end_if_long(oldest, now, LONG)

    def _end_if_long(self, task: Any, now: float, seconds: float) -> bool:
        """Give up a task that has lasted at least this long; returns whether that was done."""
        return task is not None and now - task.began >= seconds and self._end_if_any(task, now)

    def _end_if_any(self, task: Any, now: float) -> bool:
        """Give up a task unless it is None: all tasks of the greediest may still be queued."""
        if task is None:
            return False
        self._end(task, now)
        return True

    def _end(self, task: Any, now: float) -> None:
        """Give up a task. Its greenlet is interrupted from the hub, since the caller may run on a greenlet itself."""
        if now >= self._next_warning:
            self._next_warning = now + WARNINGS_APART
            self._warn(self._shares.greediest())
        self._finish(task)
        if task.up:
            self._shed(task, SHED_CROWDED)
        self._hub.loop.run_callback(_interrupt, task)

    def _warn(self, greediest: Share | None) -> None:
        who = f"; {greediest.count} are for {greediest}" if greediest is not None else ""
        log.warning("the limit of %d questions at a time is reached: old ones are dropped%s", len(self._flying), who)

    def _serve_later(self) -> None:
        if self._ticker is None:
            self._ticker = self._hub.loop.timer(TICK)
            self._ticker.start(self._tick)

    def _tick(self) -> None:
        """Called every `TICK` seconds while tasks are queued."""
        self._ticker.close()
        self._ticker = None
        now = clock.now()
        self._adjust_window(now)
        for _ in range(TICKED):
            if not self._line or not self._has_room() or self._held_back(self._line.first()):
                break
            self._run(self._line.pop(), now)
        self._serve(now, TICKED)
        if self._line:
            self._serve_later()

    def _serve(self, now: float, count: int) -> None:
        """Take `count` tasks from the queue at most: shed those that have queued too long, begin others if possible."""
        while self._line and count > 0:
            count -= 1
            task: Any = self._line.first()
            if now - task.since > MAX_QUEUED:
                self._line.pop()
                self._shares.remove(task)
                self._shed(task, SHED_LATE)
            elif self._has_room():  # it is held back by the window: giving up another task would not help
                return
            elif self._end_one_of_greediest(task, now) or self._end_overdue(now):
                self._line.pop()
                self._call(task, now)
            else:
                return


def _interrupt(task: Task) -> None:
    """Runs in the hub. The task may have ended by itself meanwhile."""
    if task.flyer is not None:
        task.flyer.throw(GivenUp)
