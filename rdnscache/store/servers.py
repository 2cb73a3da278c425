"""The servers behind the store: one Redis server, or the primaries of a Redis Cluster, with the same methods."""

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
#: A callback for replies: called with a list of one reply for each command, or a StoreDown.
Done = Callable[[Any], None]
#: Sends commands and returns their replies, errors among them. Raises StoreDown.
Ask = Callable[..., Sequence[Any]]


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """The settings that all links of a worker share."""

    client_name: str
    #: Channels to subscribe to.
    channels: tuple[bytes, ...]
    #: Seconds without any answer after which a link is given up; seconds that a flight waits for a reply.
    timeout: float
    budget: float


class LinkEvents(Protocol):
    """The callbacks of a link."""

    def pushed(self, channel: bytes, payload: bytes) -> None:
        """A message has arrived. Runs in the hub."""

    def opened(self) -> None:
        """There is a connection, which is not used yet."""

    def attaching(self) -> None:
        """The channels are subscribed; once this returns, the link is used.

        Runs in the link's own greenlet; if it raises StoreDown, the link is given up.
        """

    def detached(self) -> None:
        """The link was given up, or could not be attached. Runs in the hub."""


class StoreEvents(LinkEvents, Protocol):
    """The callbacks of the servers."""

    def stream_back(self) -> None:
        """The shard with the control stream has been attached; messages come from another."""


class Servers:
    """Methods do not raise because of Redis unless they say so.

    A base class and not a protocol, so that compiled code calls `usable` and `ask` directly.
    """

    #: Whether messages arrive on the connection of the replies, so that their order is that of their causes.
    in_order = True
    #: Whether each server has a mark of the flushes it has been swept for.
    marked = False

    def __init__(self, counters: Counters) -> None:
        self.counters = counters

    @property
    def attached(self) -> bool:
        """Whether there is a connection: flushes are heard."""
        raise NotImplementedError

    @property
    def state(self) -> str:
        """The state of the breaker while attached; see `breaker`."""
        raise NotImplementedError

    @property
    def left_alone(self) -> int:
        """The number of servers that are attached but not used, because their breaker is open."""
        raise NotImplementedError

    @property
    def commands(self) -> int:
        """The number of commands sent so far."""
        raise NotImplementedError

    @property
    def detachments(self) -> int:
        """How often a link has been given up so far."""
        raise NotImplementedError

    @property
    def latency(self) -> float:
        """Seconds that the last PING took."""
        raise NotImplementedError

    def start(self) -> None:
        """Attach, and stay attached."""
        raise NotImplementedError

    def close(self) -> None:
        """Send the queued commands, then close for good."""
        raise NotImplementedError

    def usable(self) -> bool:
        """Whether flights may use Redis. With several servers, the one of a question may still be away."""
        raise NotImplementedError

    def ask(self, late: Done, commands: tuple[Command, ...]) -> list[Any] | None:
        """Send a flight's commands about one question; returns their replies, or None if they take too long.

        Then `late(replies)` is called in the hub if they arrive after all, else `late(StoreDown)`. Raises StoreDown if
        they cannot be sent, or the connection is lost meanwhile.
        """
        raise NotImplementedError

    def request(self, *commands: Command) -> list[Any]:
        """Send commands and wait for their replies; an error reply is a `hiredis.ReplyError` among them.

        Raises StoreDown if they cannot be sent, or the connection is lost before the last reply.
        """
        raise NotImplementedError

    def setup(self, *commands: Command) -> list[Any]:
        """As `request`, while attaching."""
        raise NotImplementedError

    def send(self, command: Command, done: Done | None = None) -> None:
        """Send without waiting; `done` is called in the hub with a list of one reply, or a StoreDown."""
        raise NotImplementedError

    def tell(self, command: Command) -> None:
        """Send if there is a connection, attached or not; the reply is dropped. For publishing messages."""
        raise NotImplementedError

    def refused(self, name: bytes, reason: str) -> None:
        """Note that the server of a key answered with an error."""
        raise NotImplementedError

    def let_go(self, reason: str) -> None:
        """Look for the primary again: the server was found to be a replica."""
        raise NotImplementedError

    def touch(self) -> None:
        """Called with each heartbeat: read keys that are hardly ever read, so that they are not evicted."""

    def verify(self) -> None:
        """Check, after more flushes have become known, whether a server has lost some of them."""

    def run(self, script: Script, late: Done, *arguments: bytes | int) -> Any:
        """Run a script, as `ask`; returns its reply, or None if that takes too long. Raises StoreDown.

        The source is sent only if Redis does not know the script.
        """
        replies = self.ask(late, ((b"EVALSHA", script.sha, script.keys, *arguments),))
        if replies and isinstance(replies[0], hiredis.ReplyError) and str(replies[0]).startswith("NOSCRIPT"):
            replies = self.ask(late, ((b"EVAL", script.source, script.keys, *arguments),))
        return replies[0] if replies else None

    def run_later(self, script: Script, done: Done, *arguments: bytes | str | int) -> None:
        """Run a script without waiting, as `send`."""

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
