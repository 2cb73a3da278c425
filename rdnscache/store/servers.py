"""What the store talks to: one Redis server, or the primaries of a Redis Cluster, behind the same methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import hiredis

from rdnscache import metrics
from rdnscache.metrics import Counters
from rdnscache.store.script import Script

#: The words of one command.
Command = Sequence[bytes | str | int]
#: What a reply is handed to: a list of one reply for each command, or a StoreDown.
Done = Callable[[Any], None]
#: Sends commands and returns their replies, errors among them. Raises StoreDown.
Ask = Callable[..., Sequence[Any]]


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What all links of a worker have in common."""

    client_name: str
    #: Channels to hear messages on.
    channels: tuple[bytes, ...]
    #: Seconds without any answer after which a link is given up; and that a flight waits for one.
    timeout: float
    budget: float


class LinkEvents(Protocol):
    """What a link tells its owner."""

    def pushed(self, channel: bytes, payload: bytes) -> None:
        """A message has come. Runs in the hub."""

    def opened(self) -> None:
        """There is a connection, not in use yet."""

    def attaching(self) -> None:
        """Channels are subscribed; when this returns, the link is in use.

        Runs in the link's own greenlet; with a StoreDown the link is given up.
        """

    def detached(self) -> None:
        """The link was given up, or could not be attached. Runs in the hub."""


class StoreEvents(LinkEvents, Protocol):
    """What the servers tell the store."""

    def stream_back(self) -> None:
        """The shard with the control stream is there (again), while messages come from another."""


class Servers:
    """Nothing here raises because of Redis unless it says so.

    A base class rather than a protocol: compiled, `usable` and `ask` are then called without being looked up.
    """

    #: Whether messages come on the connection of the replies, in the order in which they were caused.
    in_order = True
    #: Whether each server bears a mark of the flushes it has been swept for.
    marked = False

    def __init__(self, counters: Counters) -> None:
        self.counters = counters

    @property
    def attached(self) -> bool:
        """Whether there is a connection: flushes are heard."""
        raise NotImplementedError

    @property
    def state(self) -> str:
        """How access is while attached; see `breaker`."""
        raise NotImplementedError

    @property
    def left_alone(self) -> int:
        """How many servers are there and not asked."""
        raise NotImplementedError

    @property
    def commands(self) -> int:
        """Commands sent, since the beginning."""
        raise NotImplementedError

    @property
    def detachments(self) -> int:
        """How often a link was given up, since the beginning."""
        raise NotImplementedError

    @property
    def latency(self) -> float:
        """Seconds the last PING took."""
        raise NotImplementedError

    def start(self) -> None:
        """Attach, and stay attached."""
        raise NotImplementedError

    def close(self) -> None:
        """Send what is waiting to be sent, then close for good."""
        raise NotImplementedError

    def usable(self) -> bool:
        """Whether flights ask here. With several servers, `ask` may still find that of a question away."""
        raise NotImplementedError

    def ask(self, late: Done, commands: tuple[Command, ...]) -> list[Any] | None:
        """A flight's commands, all about one question: their replies; None when they do not come within the budget.

        Then `late(replies)` is called in the hub should they still come, or `late(StoreDown)`. Raises StoreDown when
        they cannot be asked, or the connection is lost over it.
        """
        raise NotImplementedError

    def request(self, *commands: Command) -> list[Any]:
        """Send commands and wait for their replies; an error reply is a `hiredis.ReplyError` among them.

        Raises StoreDown when they cannot be asked, or the connection is lost before the last reply.
        """
        raise NotImplementedError

    def setup(self, *commands: Command) -> list[Any]:
        """As `request`, while attaching."""
        raise NotImplementedError

    def send(self, command: Command, done: Done | None = None) -> None:
        """Send and do not wait; `done` is called in the hub."""
        raise NotImplementedError

    def tell(self, command: Command) -> None:
        """Send when there is a connection, attached or not, and forget about it. For messages."""
        raise NotImplementedError

    def refused(self, name: bytes, reason: str) -> None:
        """The server of a key answered with what is no answer."""
        raise NotImplementedError

    def let_go(self, reason: str) -> None:
        """A replica was written to: look for the primary again."""
        raise NotImplementedError

    def touch(self) -> None:
        """With each heartbeat: keep what is hardly ever read from being evicted."""

    def verify(self) -> None:
        """More flushes are known: look which of them a server has lost."""

    def run(self, script: Script, late: Done, *arguments: bytes | int) -> Any:
        """Run a script on its keys, as `ask`; None when there is no answer soon. Raises StoreDown.

        Its source goes along only when Redis has forgotten it.
        """
        replies = self.ask(late, ((b"EVALSHA", script.sha, script.keys, *arguments),))
        if replies and isinstance(replies[0], hiredis.ReplyError) and str(replies[0]).startswith("NOSCRIPT"):
            replies = self.ask(late, ((b"EVAL", script.source, script.keys, *arguments),))
        return replies[0] if replies else None

    def run_later(self, script: Script, done: Done, *arguments: bytes | str | int) -> None:
        """The same without waiting, as `send`."""

        later = Later(self, script, done, arguments)
        self.send((b"EVALSHA", script.sha, script.keys, *arguments), later)

    def count_error(self) -> None:
        self.counters[metrics.REDIS_ERRORS] += 1


class Later:
    """What is called with the reply to a script that nobody waits for: `done`, or the script is sent itself."""

    __slots__ = ("_arguments", "_done", "_script", "_servers")

    def __init__(self, servers: Servers, script: Script, done: Done, arguments: tuple[bytes | str | int, ...]) -> None:
        self._servers = servers
        self._script = script
        self._done = done
        self._arguments = arguments

    def __call__(self, result: Any) -> None:
        reply = result[0] if isinstance(result, list) else result
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            script = self._script
            self._servers.send((b"EVAL", script.source, script.keys, *self._arguments), self._done)
        else:
            self._done(result)
