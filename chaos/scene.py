"""The real part of the model: the keys of one name in a real Redis, with our scripts and our deletion.

The result of a command depends only on the state of Redis and its arguments, so each is tried once for each of these.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import hiredis
import redis
from greenlet import getcurrent, greenlet

from rdnscache.dns.question import wider_key
from rdnscache.outcomes import Verdict
from rdnscache.store.contract import CLAIM, CLAIM_SUFFIX, FILL, LEASE, NOTHING_FRESH, Names
from rdnscache.store.scope import Scope
from rdnscache.store.script import Script
from rdnscache.store.sweeping import sweep

NOTHING, OLD, NEW = -1, 0, 1
NAME = b"\1a\4test\0"
#: A lease is set to its full length before each command, so that only the model ends it.
LEASE_MS, LIFETIME_MS = round(LEASE * 1000), 3_600_000
PREFIX = "model"


class Shared(NamedTuple):
    """The state of Redis: the version of the entry, the claim's token, the followers."""

    entry: int = NOTHING
    lead: bytes | None = None
    wait: frozenset[int] = frozenset()


#: A worker, and the version that it is woken with, if any.
Wake = tuple[int, int]


class Scene:
    """Each method brings Redis into a state, executes one command, and returns the result."""

    def __init__(self, path: str, fill: Script = FILL) -> None:
        self._fill = fill
        self._client = redis.Redis(unix_socket_path=path, protocol=3)
        self._connection: Any = self._client.connection_pool.get_connection()
        self._reader = hiredis.Reader()
        question, contract = NAME + b"\0\1\0\1\0", Names(PREFIX)
        name = contract.entry(question)
        self._keys = (name, name + CLAIM_SUFFIX.encode(), name + b"#wait", contract.entry(wider_key(question)))
        self._wakes: list[Wake] = []
        self._call(b"FLUSHALL")
        for script in (CLAIM, fill):
            self._call(b"SCRIPT", b"LOAD", script.source)
        for worker in range(9):
            self._call(b"SUBSCRIBE", b"w%d" % worker)
        self._known: dict[tuple[Any, ...], tuple[Shared, Any, list[Wake]]] = {}

    def close(self) -> None:
        self._connection.disconnect()
        self._client.close()

    def claim(self, shared: Shared, worker: int, token: bytes, followed: bool, doubts: bool) -> tuple[Shared, int, int]:
        """The state after a claim, its verdict, and the version it brought."""
        told = (token, LEASE_MS, b"w%d" % worker, int(followed), NOTHING_FRESH if doubts else 0)
        if not (followed or doubts):
            after, found = self._lead(shared, token)
            if found == (b"OK", 0):
                return after, Verdict.LEAD, NOTHING
            shared = after
        after, reply, _ = self._try(shared, CLAIM, told)
        return after, reply[0], NOTHING if reply[4] is None else _version(reply[4])

    def _lead(self, shared: Shared, token: bytes) -> tuple[Shared, Any]:
        """The result of the plain commands of a claim, which precede the script."""
        known = self._known.get((shared, token))
        if known is None:
            entry, lead, _, wider = self._keys
            plain = [(b"SET", lead, token, b"NX", b"PX", LEASE_MS), (b"EXISTS", entry, wider)]
            told = self._calls([*self._restoring(shared, LEASE_MS), *plain, *self._reading()])
            known = self._known[shared, token] = _shared(*told[-3:]), tuple(told[-5:-3]), []
        return known[:2]

    def fill(self, shared: Shared, token: bytes, kind: bytes, version: int) -> tuple[Shared, list[Wake]]:
        info = b"rcode=NOERROR ttl=%d stale=0 stored=2026-01-01T00:00:00Z from=x node=n" % (LIFETIME_MS // 1000)
        told = (token, kind, LIFETIME_MS, info, b"", b"\0%d" % version)
        after, _, wakes = self._try(shared, self._fill, told)
        return after, wakes

    def delete(self, shared: Shared, told: tuple[bytes, ...]) -> tuple[Shared, tuple[bytes, ...] | None]:
        """The next command of the deletion, after those whose replies were `told`; None when that was the last."""
        known = self._known.get((shared, told))
        if known is None:
            known = self._known[shared, told] = *self._delete(shared, told), []
        return known[:2]

    def _delete(self, shared: Shared, told: tuple[bytes, ...]) -> tuple[Shared, tuple[bytes, ...] | None]:
        replay = _Replay(self._call, told)
        deletion = greenlet(lambda: list(sweep(replay, Names(PREFIX), Scope(name=NAME))))
        for _ in range(len(told) + 1):
            deletion.switch()
        if deletion.dead:
            return shared, None
        self._calls(self._restoring(shared, LIFETIME_MS))
        deletion.switch()
        over = deletion.dead
        deletion.throw()
        return _shared(*self._calls(self._reading())), None if over else replay.told

    def _try(self, shared: Shared, script: Script, told: tuple[Any, ...]) -> tuple[Shared, Any, list[Wake]]:
        known = self._known.get((shared, script, told))
        if known is None:
            self._wakes = []
            run = (b"EVALSHA", script.sha, len(self._keys), *self._keys, *told)
            *_, reply, wire, token, waiting = self._calls([*self._restoring(shared, LEASE_MS), run, *self._reading()])
            known = self._known[shared, script, told] = _shared(wire, token, waiting), reply, self._wakes
        return known

    def _restoring(self, shared: Shared, lease_ms: int) -> list[tuple[Any, ...]]:
        """The commands that bring Redis into a state."""
        entry, lead, wait, _ = self._keys
        commands: list[tuple[Any, ...]] = [(b"DEL", *self._keys)]
        if shared.entry != NOTHING:
            info = b"rcode=NOERROR ttl=%d stale=0 x" % (LIFETIME_MS // 1000)
            commands.append((b"HSET", entry, b"info", info, b"answer", b"", b"wire", b"\0%d" % shared.entry))
            commands.append((b"PEXPIRE", entry, LIFETIME_MS))
        if shared.lead is not None:
            commands.append((b"SET", lead, shared.lead, b"PX", lease_ms))
        if shared.wait:
            commands.append((b"SADD", wait, *(b"w%d" % worker for worker in sorted(shared.wait))))
            commands.append((b"PEXPIRE", wait, lease_ms))
        return commands

    def _reading(self) -> list[tuple[Any, ...]]:
        entry, lead, wait, _ = self._keys
        return [(b"HGET", entry, b"wire"), (b"GET", lead), (b"SMEMBERS", wait)]

    def _call(self, *command: Any) -> Any:
        return self._calls([command])[0]

    def _calls(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """The replies to some commands. What they publish is kept in `_wakes`."""
        sock = self._connection._sock
        sock.sendall(b"".join(hiredis.pack_command(command) for command in commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(sock.recv(1 << 16))
            elif isinstance(reply, Exception):
                raise reply
            elif isinstance(reply, hiredis.PushNotification) and reply[0] == b"message":
                self._wakes.append((int(reply[1][1:]), _version(reply[2])))
            else:  # a subscription is answered by a push
                replies.append(reply)
        return replies


def _shared(wire: bytes | None, token: bytes | None, waiting: set[bytes]) -> Shared:
    version = NOTHING if wire is None else _version(wire)
    return Shared(version, token, frozenset(int(channel[1:]) for channel in waiting))


def _version(wire: bytes) -> int:
    """The version of a stored reply or a wake-up; none if the leader has given its claim back."""
    return NOTHING if wire.endswith(b"\n") else int(wire[-1:])


class _Replay:
    """A connection to sweep over: commands whose replies are known get these, the next waits until switched to."""

    def __init__(self, call: Callable[..., Any], told: tuple[bytes, ...]) -> None:
        self._call, self.told, self._at = call, told, 0

    def __call__(self, *commands: tuple[Any, ...]) -> list[Any]:
        return [self._reply(command) for command in commands]

    def _reply(self, command: tuple[Any, ...]) -> Any:
        getcurrent().parent.switch()
        if self._at == len(self.told):
            self.told += (pickle.dumps(self._call(*command)),)
        self._at += 1
        return pickle.loads(self.told[self._at - 1])
