"""Questions to all workers about the entries of a name in L1."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import gevent

from rdnscache.dns.names import parse_own_name
from rdnscache.store.contract import Names
from rdnscache.store.foreign_json import read_object
from rdnscache.store.local import Local
from rdnscache.store.servers import Servers
from rdnscache.store.steering import LONGEST_EVENT

#: Questions that are answered at the same time.
LOOKS = 4


class Looks:
    """Answers questions for this worker; `unread` is called with those that cannot be read."""

    def __init__(
        self,
        names: Names,
        worker_id: Mapping[str, Any],
        local: Local,
        servers: Servers,
        unread: Callable[[str, bytes], None],
    ) -> None:
        self._acks = names.acks
        self._worker_id = worker_id
        self._local = local
        self._servers = servers
        self._unread = unread
        self._looking = 0

    def ask(self, raw: bytes) -> None:
        if self._looking >= LOOKS:
            return self._unread("too many questions at the same time", raw)
        self._looking += 1
        gevent.spawn(self._answer, raw)
        return None

    def _answer(self, raw: bytes) -> None:
        """Publish the entries of a name in L1."""
        try:
            told = read_object(raw, LONGEST_EVENT)
            name, asked = parse_own_name(told["name"]), str(told["id"])
            held = {"event": asked, **self._worker_id, "held": self._local.look(name)}
            self._servers.tell((b"PUBLISH", self._acks, json.dumps(held)))
        except (ValueError, KeyError, TypeError):
            self._unread("a question cannot be read", raw)
        finally:
            self._looking -= 1
