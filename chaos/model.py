"""A model of a flush and concurrent flights: the states, and the steps from each of them.

Redis is real: see `chaos.scene`. The workers are modelled, with messages that they have sent and Redis has not read
yet, and messages to them that they have not read yet. `chaos.orders` tries the orders of these steps.

A version is OLD if the upstream was asked for it before the flush began. Workers that have heard of the flush ignore
entries and wake-ups from workers that had not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from chaos.scene import NEW, NOTHING, OLD, Scene, Shared
from rdnscache.outcomes import Verdict
from rdnscache.store.contract import RELEASE, STORE

#: The stages of a flight.
IDLE, CLAIMING, ASKING, FOLLOWING, ENDED = "idle", "claiming", "asking", "following", "ended"
#: The stages of a flush.
ANNOUNCE, COLLECT, DELETE = "announce", "collect", "delete"
#: Messages from and to a worker.
CLAIM, FILL, ACK, EVENT, REPLY, WAKE = "claim", "fill", "ack", "event", "reply", "wake"
Message = tuple[Any, ...]


class Flight(NamedTuple):
    worker: int
    stage: str = IDLE
    #: How many announcements its worker had heard when it started, claimed and asked; whether the flush was over when
    #: it started.
    flushes: int = 0
    claimed: int = 0
    sent: int = 0
    after: bool = False
    #: Whether it has not waited for that, and whether Redis has said that it leads; whether it has followed, and how
    #: often it may look again early.
    late: bool = False
    leads: bool = False
    followed: bool = False
    looks: int = 0
    #: Whether what is in Redis is not to be believed.
    doubts: bool = False
    #: The version the upstream was asked for, and whether it is still to be sent; what the flight has ended with, or
    #: was woken with while it claimed.
    asked: int = NOTHING
    held: bool = False
    found: int = NOTHING

    def answer(self, version: int) -> int:
        """The version its clients are answered with: the first one it got."""
        return version if self.found == NOTHING else self.found


class Worker(NamedTuple):
    l1: int = NOTHING
    #: How many announcements it has heard.
    heard: int = 0
    inbox: tuple[Message, ...] = ()
    outbox: tuple[Message, ...] = ()
    #: Messages sent on a connection that it has given up, which Redis will read nevertheless.
    stray: tuple[Message, ...] = ()


class Flusher(NamedTuple):
    at: int = 0
    announced: int = 0
    #: Replies to the deletion so far.
    told: tuple[bytes, ...] = ()
    acks: frozenset[tuple[int, int]] = frozenset()
    missing: frozenset[int] = frozenset()


class State(NamedTuple):
    shared: Shared
    workers: tuple[Worker, ...]
    flights: tuple[Flight, ...]
    flusher: Flusher = Flusher()
    #: How many more leases may end, and connections break.
    leases: int = 0
    breaks: int = 0


#: A step in words, and the function that returns the state after it.
Step = tuple[tuple[Any, ...], Callable[[], State]]


@dataclass(frozen=True)
class Space:
    """The parameters of a model."""

    name: str
    #: The worker of each flight.
    flights: tuple[int, ...] = (0, 1)
    #: Whether there is an old entry to begin with; whether the first flight leads already, and the second follows.
    cached: bool = False
    under_way: bool = False
    leases: int = 1
    breaks: int = 0
    looks: int = 0
    #: Whether commands, events and wake-ups come over different connections, as in a Redis Cluster.
    several: bool = False
    #: Whether an upstream may be asked before the claim is answered, as when Redis is slow.
    slow: bool = False
    #: Whether the flush may go on without the confirmation of a worker.
    impatient: bool = False
    program: tuple[str, ...] = (ANNOUNCE, COLLECT, DELETE)
    #: Whether workers that have heard of the flush ignore older entries.
    refusing: bool = True

    def start(self) -> State:
        shared = Shared(OLD if self.cached else NOTHING)
        flights = tuple(Flight(worker, looks=self.looks) for worker in self.flights)
        workers = (Worker(),) * (max(self.flights) + 1)
        if self.under_way:
            leader = flights[0]._replace(stage=ASKING, leads=True, asked=OLD)
            flights = (leader, flights[1]._replace(stage=FOLLOWING, followed=True), *flights[2:])
            shared = shared._replace(lead=b"t0", wait=frozenset({self.flights[1]}))
        return State(shared, workers, flights, leases=self.leases, breaks=self.breaks)


class Model:
    def __init__(self, scene: Scene, space: Space) -> None:
        self._scene, self._space = scene, space

    def problem(self, state: State) -> str:
        """What is wrong in a final state; empty if nothing is. A worker that has not confirmed does not count."""
        if not self._proved(state):
            return ""
        missing = state.flusher.missing
        if any(worker.l1 == OLD and who not in missing for who, worker in enumerate(state.workers)):
            return "old in L1"
        if self._over(state) and state.shared.entry == OLD:
            return "old in Redis"
        if any(each.after and each.found == OLD and each.worker not in missing for each in state.flights):
            return "old answer"
        return ""

    def steps(self, state: State) -> list[Step]:
        """The possible next steps; none at the end."""
        found: list[Step] = []
        for number, flight in enumerate(state.flights):
            found += self._flying(state, number, flight)
        for who, worker in enumerate(state.workers):
            found += self._messages(state, who, worker)
        if state.leases and state.shared.lead is not None:
            found.append((("the lease ends",), partial(self._end_lease, state)))
        found += self._flushing(state)
        return found or self._last(state)

    def _over(self, state: State) -> bool:
        return state.flusher.at == len(self._space.program)

    def _proved(self, state: State) -> bool:
        return COLLECT not in self._space.program[state.flusher.at :]

    def _refuses(self, state: State, who: int, version: int) -> bool:
        return self._space.refusing and version == OLD and state.workers[who].heard > 0

    def lost(self, state: State) -> bool:
        """Whether a flight follows a claim that nobody will fill, which must not happen unless a connection breaks."""
        return any(flight.stage != ENDED for flight in state.flights)

    def _last(self, state: State) -> list[Step]:
        """The steps when no message is left: followers claim again, and wait for the lease of a lost leader."""
        number = next((number for number, flight in enumerate(state.flights) if flight.stage == FOLLOWING), None)
        if number is None:
            return []
        if state.shared.lead is None:
            return [(("flight", number, "looks at last"), partial(self._claim, state, number, state.flights[number]))]
        if self._space.breaks:
            return [(("the last lease ends",), partial(self._end_lease, state._replace(leases=1)))]
        return []

    def _end_lease(self, state: State) -> State:
        return state._replace(shared=state.shared._replace(lead=None), leases=state.leases - 1)

    # -- flights -----------------------------------------------------------------------------------------------------

    def _flying(self, state: State, number: int, flight: Flight) -> list[Step]:
        if flight.stage == IDLE:
            return [(("flight", number, "starts"), partial(self._start, state, number, flight))]
        if flight.stage == CLAIMING and self._space.slow:
            late = flight._replace(late=True)
            return [(("flight", number, "asks without waiting"), partial(self._ask, state, number, late))]
        if flight.stage == ASKING:
            return [(("flight", number, "is answered"), partial(self._answered, state, number, flight))]
        if flight.stage == FOLLOWING and flight.looks:
            looks = flight._replace(looks=flight.looks - 1)
            return [(("flight", number, "looks again"), partial(self._claim, state, number, looks))]
        return []

    def _start(self, state: State, number: int, flight: Flight) -> State:
        worker = state.workers[flight.worker]
        begun = flight._replace(flushes=worker.heard, after=self._proved(state))
        if worker.l1 != NOTHING:
            return _fly(state, number, begun._replace(stage=ENDED, found=worker.l1))
        return self._claim(state, number, begun)

    def _claim(self, state: State, number: int, flight: Flight) -> State:
        state = _fly(state, number, flight._replace(stage=CLAIMING, claimed=state.workers[flight.worker].heard))
        return _send(state, flight.worker, (CLAIM, number, flight.followed, flight.doubts))

    def _ask(self, state: State, number: int, flight: Flight) -> State:
        version = OLD if state.flusher.at == 0 and not state.flusher.told else NEW
        sent = state.workers[flight.worker].heard
        return _fly(state, number, flight._replace(stage=ASKING, asked=version, sent=sent))

    def _answered(self, state: State, number: int, flight: Flight) -> State:
        """Its fill waits until Redis says that it leads; see `RedisClaim`."""
        state = self._land(state, number, flight, flight.asked)
        heard = state.workers[flight.worker].heard
        current = flight.sent == heard
        if not flight.late:
            return _send(state, flight.worker, (FILL, number, STORE if current else RELEASE, flight.asked))
        if not current or flight.claimed != heard or self._space.several:
            return _send(state, flight.worker, (FILL, number, RELEASE, flight.asked))
        if not flight.leads:
            return _fly(state, number, state.flights[number]._replace(held=True))
        return _send(state, flight.worker, (FILL, number, STORE, flight.asked))

    def _late_verdict(self, state: State, number: int, flight: Flight) -> State:
        """A late verdict. The fill that waits for it may be sent if no flush was heard of meanwhile."""
        state = _fly(state, number, flight._replace(held=False))
        if not flight.held or not flight.leads:
            return state
        current = flight.sent == flight.claimed == state.workers[flight.worker].heard
        return _send(state, flight.worker, (FILL, number, STORE if current else RELEASE, flight.asked))

    def _land(self, state: State, number: int, flight: Flight, version: int) -> State:
        state = self._keep(state, flight, version)
        return _fly(state, number, flight._replace(stage=ENDED, found=flight.answer(version)))

    def _keep(self, state: State, flight: Flight, version: int) -> State:
        """Put the answer of a flight into L1, unless there was a flush meanwhile."""
        worker = state.workers[flight.worker]
        return _with(state, flight.worker, worker._replace(l1=version)) if flight.flushes == worker.heard else state

    # -- messages ----------------------------------------------------------------------------------------------------

    def _messages(self, state: State, who: int, worker: Worker) -> Iterator[Step]:
        for index in self._heads(worker.outbox):
            message = worker.outbox[index]
            left = _with(state, who, worker._replace(outbox=_without(worker.outbox, index)))
            yield ("Redis reads of worker", who, message), partial(self._read, left, who, message)
        if worker.stray:
            message = worker.stray[0]
            left = _with(state, who, worker._replace(stray=worker.stray[1:]))
            yield ("Redis reads late of worker", who, message), partial(self._read, left, who, message, True)
        for index in self._heads(worker.inbox):
            message = worker.inbox[index]
            left = _with(state, who, worker._replace(inbox=_without(worker.inbox, index)))
            yield ("worker", who, "hears", message), partial(self._hear, left, who, message)
        if state.breaks and (worker.outbox or worker.inbox):
            yield ("the connection breaks of worker", who), partial(self._break, state, who)

    def _heads(self, queue: tuple[Message, ...]) -> list[int]:
        """The messages that may be read next: the first one, or the first one of each connection."""
        if not queue:
            return []
        if not self._space.several:
            return [0]
        found: dict[str, int] = {}
        for index, message in enumerate(queue):
            found.setdefault("commands" if message[0] in (CLAIM, FILL, REPLY) else message[0], index)
        return list(found.values())

    def _read(self, state: State, who: int, message: Message, unheard: bool = False) -> State:
        """Redis executes a message of a worker; `unheard`: the reply is lost with a connection that was given up."""
        if message[0] == ACK:
            flusher = state.flusher
            return state._replace(flusher=flusher._replace(acks=flusher.acks | {(who, message[1])}))
        number = message[1]
        token = b"t%d" % number
        if message[0] == CLAIM:
            shared, verdict, version = self._scene.claim(state.shared, who, token, *message[2:])
            state = state._replace(shared=shared)
            return state if unheard else _post(state, who, (REPLY, number, verdict, version))
        shared, wakes = self._scene.fill(state.shared, token, message[2], message[3])
        state = state._replace(shared=shared)
        for worker, version in wakes:
            state = _post(state, worker, (WAKE, version))
        return state

    def _hear(self, state: State, who: int, message: Message) -> State:
        """A worker reads a message."""
        if message[0] == EVENT:
            return self._apply(state, who, message[1])
        if message[0] == WAKE:
            return self._wake(state, who, message[1])
        _, number, verdict, version = message
        flight = state.flights[number]._replace(leads=verdict == Verdict.LEAD)
        if flight.stage != CLAIMING:
            return self._late_verdict(state, number, flight)
        if verdict == Verdict.ENTRY and self._refuses(state, flight.worker, version):
            return self._claim(state, number, flight._replace(doubts=True))
        if verdict == Verdict.ENTRY:
            return self._land(state, number, flight, version)
        if verdict == Verdict.LEAD:
            return self._ask(state, number, flight)
        if flight.found != NOTHING:
            return self._land(state, number, flight, flight.found)
        return _fly(state, number, flight._replace(stage=FOLLOWING, followed=True))

    def _wake(self, state: State, who: int, version: int) -> State:
        for number, flight in enumerate(state.flights):
            wary = self._space.several and flight.flushes
            told = NOTHING if wary or self._refuses(state, who, version) else version
            if flight.worker != who or flight.stage not in (CLAIMING, FOLLOWING):
                continue
            if flight.stage == FOLLOWING and told == NOTHING:
                state = self._claim(state, number, flight)
            elif flight.stage == FOLLOWING:
                state = self._land(state, number, flight, told)
            elif told != NOTHING:
                state = self._keep(state, flight, told)
                state = _fly(state, number, flight._replace(found=flight.answer(told)))
        return state

    def _apply(self, state: State, who: int, event: int) -> State:
        """A worker flushes its L1 and confirms."""
        worker = state.workers[who]
        if event > worker.heard:
            state = _with(state, who, worker._replace(heard=event, l1=NOTHING))
        return _send(state, who, (ACK, event))

    def _break(self, state: State, who: int) -> State:
        """A new connection: the worker catches up with events; its followers claim again, its claims go on alone."""
        worker = state.workers[who]
        fresh = worker._replace(inbox=(), outbox=(), stray=worker.stray + worker.outbox)
        state = _with(state, who, fresh)._replace(breaks=state.breaks - 1)
        for event in range(worker.heard + 1, state.flusher.announced + 1):
            state = self._apply(state, who, event)
        for number, flight in enumerate(state.flights):
            if flight.worker == who and flight.held:
                state = _fly(state, number, flight._replace(held=False))
            elif flight.worker == who and flight.stage == FOLLOWING:
                state = self._claim(state, number, flight)
            elif flight.worker == who and flight.stage == CLAIMING:
                state = self._ask(state, number, flight._replace(late=True))
        return state

    # -- the flush ---------------------------------------------------------------------------------------------------

    def _flushing(self, state: State) -> list[Step]:
        flusher = state.flusher
        if self._over(state):
            return []
        step, on = self._space.program[flusher.at], flusher._replace(at=flusher.at + 1)
        if step == ANNOUNCE:
            return [(("the flush is announced",), partial(self._announce, state, on))]
        if step == DELETE:
            return [(("the flush deletes",), partial(self._delete, state, on))]
        silent = {who for who in range(len(state.workers)) if (who, flusher.announced) not in flusher.acks}
        if not silent:
            return [(("the flush is confirmed",), lambda: state._replace(flusher=on))]
        if self._space.impatient:
            alone = on._replace(missing=flusher.missing | silent)
            return [(("the flush goes on without", *silent), lambda: state._replace(flusher=alone))]
        return []

    def _announce(self, state: State, on: Flusher) -> State:
        event = on.announced + 1
        state = state._replace(flusher=on._replace(announced=event))
        for who in range(len(state.workers)):
            state = _post(state, who, (EVENT, event))
        return state

    def _delete(self, state: State, on: Flusher) -> State:
        shared, told = self._scene.delete(state.shared, state.flusher.told)
        flusher = on._replace(told=()) if told is None else state.flusher._replace(told=told)
        return state._replace(shared=shared, flusher=flusher)


def _without(queue: tuple[Message, ...], index: int) -> tuple[Message, ...]:
    return queue[:index] + queue[index + 1 :]


def _with(state: State, who: int, worker: Worker) -> State:
    return state._replace(workers=(*state.workers[:who], worker, *state.workers[who + 1 :]))


def _fly(state: State, number: int, flight: Flight) -> State:
    return state._replace(flights=(*state.flights[:number], flight, *state.flights[number + 1 :]))


def _send(state: State, who: int, message: Message) -> State:
    worker = state.workers[who]
    return _with(state, who, worker._replace(outbox=(*worker.outbox, message)))


def _post(state: State, who: int, message: Message) -> State:
    worker = state.workers[who]
    return _with(state, who, worker._replace(inbox=(*worker.inbox, message)))
