"""The greenlets that fly: made when needed, no more of them kept than are, and not all for those who ask most."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event
from support import wait_for

from rdnscache import clock
from rdnscache.crew import KEPT, Crew, Task

pytestmark = pytest.mark.pure

SIZE = 300


def living(greenlets: set[gevent.Greenlet]) -> int:
    return sum(not each.dead for each in greenlets)


def test_those_that_nothing_is_left_for_end() -> None:
    """After a crowd a few stay; the next crowd has as many as the first."""
    flyers: set[gevent.Greenlet] = set()
    up, done = Event(), [0]

    def fly(task: Task) -> None:
        flyers.add(gevent.getcurrent())
        up.wait(20)
        done[0] += 1

    crew = Crew(fly, lambda task, column: None, SIZE)
    for crowd in (1, 2):
        up.clear()
        for number in range(SIZE):
            crew.start(Task(b"\1a\4test\0\0\1\0\1\0", clock.now(), bytes((number & 255,))), clock.now())
        with gevent.Timeout(20):
            while living(flyers) < SIZE:
                gevent.sleep(0.01)
        up.set()
        with gevent.Timeout(20):
            while done[0] < crowd * SIZE or living(flyers) > KEPT:
                gevent.sleep(0.01)
        assert living(flyers) == KEPT
    assert len(flyers) == 2 * SIZE - KEPT


def test_those_in_use_stay() -> None:
    """However short the use: who was needed since the last look does not end."""
    wait_for(lambda: used_for_two_looks() < 0.5, 60)


def used_for_two_looks() -> float:
    """Use a crew again and again; the longest pause between, which a busy machine makes too long to say anything."""
    flyers: set[gevent.Greenlet] = set()

    def fly(task: Task) -> None:
        flyers.add(gevent.getcurrent())
        gevent.sleep(0)

    crew = Crew(fly, lambda task, column: None, SIZE)
    used = clock.now()
    ends, longest = used + 2.5, 0.0  # two looks
    while (now := clock.now()) < ends:
        longest, used = max(longest, now - used), now
        for _ in range(2 * KEPT):
            crew.start(Task(b"\1a\4test\0\0\1\0\1\0", now, b""), now)
        gevent.sleep(0.05)
    assert living(flyers) == len(flyers) == 2 * KEPT or longest >= 0.5
    return longest


class TestDelay:
    """Answers come late, because of what is on its way already. Two clients, one of which asks far more."""

    GREEDY, OTHER, SIZE, CROWD = b"\xc0\0\2", b"\xc6\x33\x64", 1000, 800

    @pytest.fixture
    def begun(self) -> list[bytes]:
        """Whose flights have begun."""
        return []

    def crowd(self, begun: list[bytes], over: Event, delay: list[float]) -> Crew:
        """The greedy have asked, four questions each millisecond."""

        def fly(task: Task) -> None:
            begun.append(task.client)
            over.wait()

        crew = Crew(fly, lambda task, reason: begun.append(b"shed"), self.SIZE, lambda now: delay[0])
        now = clock.now()
        for number in range(self.CROWD):
            self.ask(crew, self.GREEDY, number, now - (self.CROWD - number) / 4000)
        self.settle(begun)
        return crew

    def settle(self, begun: list[bytes]) -> None:
        """Until no more begin, turn by turn of the hub."""
        turns = seen = 0
        while turns < 10:
            gevent.sleep(0)
            turns = turns + 1 if len(begun) == seen else 0
            seen = len(begun)

    def ask(self, crew: Crew, client: bytes, number: int, now: float) -> None:
        crew.start(Task(b"\3abc\3z%02d\0\0\1\0\1\0" % (number % 100), now, client), now)

    def test_who_asks_most_stands_in_line(self, begun: list[bytes]) -> None:
        """Others begin at once, and nobody's flight is given up for them."""
        over = Event()
        crew = self.crowd(begun, over, [0.3])
        assert len(begun) < self.CROWD // 2
        before = len(begun)
        for number in range(10):
            self.ask(crew, self.OTHER, number, clock.now())
        self.settle(begun)
        assert begun[before:] == [self.OTHER] * 10
        over.set()

    def test_whoever_stood_in_line_is_served(self, begun: list[bytes]) -> None:
        """As flights land, one after the other."""
        over = Event()
        self.crowd(begun, over, [0.3])
        over.set()
        with gevent.Timeout(20):
            while len(begun) < self.CROWD:
                gevent.sleep(0.01)
        assert begun == [self.GREEDY] * self.CROWD

    def test_the_window_grows_again(self, begun: list[bytes]) -> None:
        """With nobody asking any more, and none landing: the delay was not theirs."""
        over, delay = Event(), [0.3]
        self.crowd(begun, over, delay)
        before = len(begun)
        delay[0] = 0.0
        with gevent.Timeout(20):
            while len(begun) < before + 50:
                gevent.sleep(0.01)
        over.set()

    @pytest.mark.parametrize("delay", [0.0, -1.0])
    def test_without_delay_all_begin(self, begun: list[bytes], delay: float) -> None:
        """However much one client asks; also where it is not known."""
        over = Event()
        self.crowd(begun, over, [delay])
        assert len(begun) == self.CROWD
        over.set()
