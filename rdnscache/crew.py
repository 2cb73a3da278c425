"""The greenlets that fly: long-lived, as a new one costs more than everything else a miss does.

They are made when needed, up to a bound, and stay while there is work for them. When all are taken, somebody has to
give way (what unbound calls jostling). While there is a client or zone that is greedy, a flight of others begins at
once: the oldest of the greediest is given up for it. All else stays in the line for the next greenlet that is free, or
is taken from a flight that has lasted too long. Every second flight may last as long as it takes: however slow an
upstream is, half of the greenlets bring its answers.
Where even the quickest answers take longer than they did, questions queue up at the upstreams, or here for the CPU, and
those of others would wait behind those of the greedy. Then the greedy stand in line before there are that many: in the
window, which follows the delay, there is room for what keeps upstreams busy and for no queue.
Where flights begin late, the machine is what is short: then the greedy get no new ones at all, until they are no more.
Whose the flights are is counted while there are many of them: below that nobody can be in anybody's way.
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

#: Seconds after which a flight has lasted too long, when others stand in line; when its client waits for too much.
LONG, LONGER = 0.5, 2.0
#: Seconds a flight may wait for a greenlet: longer, and its clients have asked again or gone.
MAX_QUEUED = 1.0
#: Seconds of delay that the window aims at, and between two looks at it; by what part it grows at each. It has at least
#: this part of the greenlets.
DELAY, LOOK, GROWTH, LEAST = 0.02, 0.05, 16, 16
#: Seconds between two looks at the line; how many are served each time.
TICK, TICKED = 0.05, 64
#: Tasks, or else half of the greenlets, that make a crowd. Counting ends when half of them are left.
CROWD = 250
#: The machine is short of CPU when flights begin this many seconds late, on average over the last MEMORY of them, and
#: have done so for LASTING seconds: what has waited in the kernel while the process was stopped is soon gone.
LATE, MEMORY, LASTING = 0.01, 32, 1.0
NEVER = 1e300
#: Seconds between two words in the log about a crowd.
WORDS_APART = 10.0
#: Greenlets that stay though nothing is left for them; each of the others keeps 30 KiB.
KEPT = 32
#: Seconds after which those that were idle throughout end, how many of them at most; and how many have to have ended
#: for their memory to be given back.
IDLE_TIME, MOST_ENDED, MANY = 1.0, 200, 128


class GivenUp(BaseException):
    """Thrown into a greenlet whose flight makes room for another."""


class Task(Holder):
    """What a greenlet does for a client. `since` and `began` are moments of `clock.now`, in seconds."""

    __slots__ = ("began", "client", "flyer", "key", "since", "up", "zone")

    def __init__(self, key: bytes, since: float, client: bytes) -> None:
        super().__init__()
        self.key = key
        self.since = since
        #: When it got a greenlet.
        self.began = since
        #: The prefix of who asked first: it counts as theirs, whoever joins. Empty when it is no client of ours.
        self.client = client
        #: As from `zone_of`, once it matters.
        self.zone = b""
        #: Until those who wait have their answer. Its greenlet may still have something to store then.
        self.up = True
        #: The greenlet at work on it.
        self.flyer: Any = None


def _unknown(now: float) -> float:
    return -1.0


class Crew:
    """`fly` does a task on a greenlet. `shed` ends one for those who wait, for one of outcomes.SHED_REASONS.

    `delay` says, at a moment, by how many seconds the quickest answers come later than they did before; negative when
    that is not known.
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
        #: With more flights than this, those of the greediest wait; and when that is looked at next.
        self._window = size
        self._next_look = 0.0
        self._crew: set[gevent.Greenlet] = set()
        #: How to wake those that have nothing to do; the last is taken first.
        self._idle: list[Any] = []
        #: How many of them have been idle since the last look; how many have ended since memory was given back.
        self._spare = 0
        self._ended = 0
        self._looks = False
        #: Those that have a greenlet, or for which one is on its way; in the order of their beginning.
        self._flying: dict[Task, None] = {}
        self._called: deque[Task] = deque()
        self._line = Line()
        self._hub = get_hub()
        self._ticker: Any = None
        self._shares = Shares(size)
        self._counting = False
        self._crowd = min(CROWD, size // 2)
        #: Whether many clients wait, on however few flights: a reason to count as well.
        self.pressed = False
        #: Whether the last to take off was firm.
        self._firm = True
        self._next_word = 0.0
        #: Seconds that flights have begun late, averaged while it is counted; when that was last, and since when it has
        #: been too much.
        self._lag = 0.0
        self._lag_seen = 0.0
        self._behind_since = NEVER

    def refuses(self, client: bytes, key: bytes) -> bool:
        """Whether there is not enough of the machine, and this would be for those who have most of it."""
        if not self._counting or clock.now() - self._behind_since < LASTING:
            return False
        greediest = self._shares.greediest()
        return greediest is not None and greediest.means(client, zone_of(key))

    def start(self, task: Task, now: float) -> None:
        """Find it a greenlet, or have it wait for one."""
        if not self._counting and len(self._flying) + len(self._line) >= self._crowd:
            self._count_all()
        if self._counting:
            self._count(task)
            self._look_at_delay(now)
        if self._held_back(task):
            self._line.push(task, task.client)
            self._look_later()
        elif self._has_room():
            self._send_off(task, now)
        elif (len(self._flying) < self._size and not self._line) or self._others_are_greedy(task, now):
            self._call(task, now)  # one is about to be free
        else:
            self._line.push(task, task.client)
            self._look_later()
            self._serve(now, 1)

    def _has_room(self) -> bool:
        """Whether a greenlet is free, or may be made."""
        return len(self._idle) > 0 or len(self._crew) < self._size

    def _held_back(self, task: Task) -> bool:
        """Whether it would be one too many of the greediest."""
        if len(self._flying) < self._window or not self._counting:
            return False
        greediest = self._shares.greediest()
        return greediest is not None and greediest.means(task.client, task.zone)

    def _look_at_delay(self, now: float) -> None:
        """Fit the window to the delay: smaller in proportion while there is too much of it, else a little larger."""
        if now < self._next_look:
            return
        if now - self._next_look > LASTING:
            self._window = self._size
        delay = self._delay(now)
        if delay > DELAY:
            self._window = max(int(len(self._flying) * max(DELAY / delay, 0.5)), self._size // LEAST)
        else:
            of = self._window if delay >= 0 else self._size // LEAST  # few answers come: perhaps it is too small
            self._window = min(self._window + of // GROWTH + 1, self._size)
        self._next_look = now + LOOK + max(delay, 0.0)  # what is on its way then still tells of the old window

    def _send_off(self, task: Task, now: float) -> None:
        """There is a greenlet for it, or one is made."""
        if self._idle:
            self._take_off(task, now)
            self._hub.loop.run_callback(self._idle.pop(), task)
            self._spare = min(self._spare, len(self._idle))
            return
        self._call(task, now)
        self._crew.add(gevent.spawn(self._work))
        if len(self._crew) > KEPT and not self._looks:
            self._look_for_idle()

    def press(self) -> None:
        """Many clients wait."""
        self.pressed = True
        if not self._counting:
            self._count_all()

    def give_up_oldest(self, now: float) -> bool:
        """Give up the oldest flight; False when it has not lasted too long."""
        return self._end_if_long(self._shares.oldest(True), now, LONG)

    def give_up_oldest_of(self, client: bytes, key: bytes, now: float) -> bool:
        """Give up a client's oldest flight for a question of its own; False when it has not lasted too long.

        In another zone than those that are most of it, the question may be of somebody else behind the same address:
        then one of these goes at once.
        """
        greediest = self._shares.greediest()
        elsewhere = greediest is not None and greediest.belongs_to(client) and not greediest.means(client, zone_of(key))
        if greediest is not None and elsewhere and self._end_if_any(greediest.oldest(True), now):
            return True
        return self._end_if_long(self._shares.oldest_of(client, False), now, LONGER)

    def _work(self) -> None:
        """One greenlet: task after task."""
        me = getcurrent()
        switch = me.switch
        task: Any
        while True:
            if self._called:
                task = self._called.popleft()
            elif self._line and not self._held_back(self._line.first()):
                task = self._line.pop()
                self._take_off(task, clock.now())
            else:
                self._idle.append(switch)
                task = self._hub.switch()
                if task is None:  # there are more of us than are needed
                    return
            if self._counting:
                self._note_lag(task, clock.now())
            if not task.up:  # it has given way before it began
                continue
            task.flyer = me
            try:
                self._fly(task)
            except GivenUp:
                pass
            finally:
                task.flyer = None
                self._touch_down(task)

    def _note_lag(self, task: Task, now: float) -> None:
        """A flight begins. What was learnt in an earlier crowd is not true of this one."""
        if now - self._lag_seen > LASTING:
            self._lag, self._behind_since = 0.0, NEVER
        self._lag_seen = now
        self._lag += (now - task.began - self._lag) / MEMORY
        if self._lag < LATE:
            self._behind_since = NEVER
        elif self._behind_since == NEVER:
            self._behind_since = now

    def _look_for_idle(self) -> None:
        self._looks = True
        timer = self._hub.loop.timer(IDLE_TIME, IDLE_TIME)
        timer.start(self._end_idle, timer)

    def _end_idle(self, timer: Any) -> None:
        """Let those end that nothing was left for since the last look, until few are left."""
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
            self._looks = False
            timer.close()

    def _call(self, task: Task, now: float) -> None:
        """The next greenlet that is free is for this one."""
        self._take_off(task, now)
        self._called.append(task)

    def _take_off(self, task: Task, now: float) -> None:
        task.began = now
        task.firm = self._firm = not self._firm
        self._flying[task] = None
        if self._counting:
            self._shares.enter(task)

    def _touch_down(self, task: Task) -> None:
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

    def _others_are_greedy(self, task: Task, now: float) -> bool:
        """Whether one of the greediest gives way for this one."""
        greediest = self._shares.greediest()
        if greediest is None:
            return False
        task.zone = zone_of(task.key)
        if greediest.means(task.client, task.zone):
            return False
        return self._end_if_any(greediest.oldest(True), now)

    def _last_too_long(self, now: float) -> bool:
        """Whether one that has lasted too long gives way, whoever is next."""
        greediest = self._shares.greediest()
        oldest = self._shares.oldest(False) if greediest is None else greediest.oldest(False)
        return self._end_if_long(oldest, now, LONG)

    def _end_if_long(self, task: Any, now: float, seconds: float) -> bool:
        """Give it up if it has lasted at least this long; whether that was done."""
        return task is not None and now - task.began >= seconds and self._end_if_any(task, now)

    def _end_if_any(self, task: Any, now: float) -> bool:
        """Give it up, if there is one: all of the greedy may be in line still."""
        if task is None:
            return False
        self._end(task, now)
        return True

    def _end(self, task: Any, now: float) -> None:
        """Give it up. Its greenlet is freed from the hub: we may be on one ourselves."""
        if now >= self._next_word:
            self._next_word = now + WORDS_APART
            self._say(self._shares.greediest())
        self._touch_down(task)
        if task.up:
            self._shed(task, SHED_CROWDED)
        self._hub.loop.run_callback(_let_go, task)

    def _say(self, greediest: Share | None) -> None:
        who = f"; {greediest.count} are for {greediest}" if greediest is not None else ""
        log.warning("the limit of %d questions at a time is reached: old ones are dropped%s", len(self._flying), who)

    def _look_later(self) -> None:
        if self._ticker is None:
            self._ticker = self._hub.loop.timer(TICK)
            self._ticker.start(self._look)

    def _look(self) -> None:
        """While some stand in line."""
        self._ticker.close()
        self._ticker = None
        now = clock.now()
        self._look_at_delay(now)
        for _ in range(TICKED):
            if not self._line or not self._has_room() or self._held_back(self._line.first()):
                break
            self._send_off(self._line.pop(), now)
        self._serve(now, TICKED)
        if self._line:
            self._look_later()

    def _serve(self, now: float, count: int) -> None:
        """Let those that are next begin, or shed them when it has been too long."""
        while self._line and count > 0:
            count -= 1
            task: Any = self._line.first()
            if now - task.since > MAX_QUEUED:
                self._line.pop()
                self._shares.remove(task)
                self._shed(task, SHED_LATE)
            elif self._has_room():  # it is held back: that others give way would be of no use
                return
            elif self._others_are_greedy(task, now) or self._last_too_long(now):
                self._line.pop()
                self._call(task, now)
            else:
                return


def _let_go(task: Task) -> None:
    """Runs in the hub. The greenlet may have come to its end by itself meanwhile."""
    if task.flyer is not None:
        task.flyer.throw(GivenUp)
