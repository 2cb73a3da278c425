"""What workers are made of, loaded by the supervisor before it forks them.

They begin at once then, and share the memory of their code. One that is started again after an upgrade has changed the
files is of the version of the others. Nothing is made here, no event loop above all: each worker makes its own.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from importlib import import_module

import gevent.events
from gevent import monkey

from rdnscache.config import Config
from rdnscache.endpoint import HTTPS, TLS
from rdnscache.group_policies import GroupPolicies
from rdnscache.node.inherited import Inherited
from rdnscache.node.lifeline import Lifeline
from rdnscache.worker import run_worker

#: A worker's whole life; returns its exit code.
Work = Callable[[Config, Inherited, Lifeline, GroupPolicies], int]
#: Where gevent has what it puts in place of the standard library's.
_COOPERATING = (
    "local", "os", "queue", "select", "selectors", "signal", "socket", "ssl", "subprocess", "thread", "threading",
    "time",
)  # fmt: skip
_ADMIN = ("admin.page_orders", "admin.page_status", "admin.server")
_TRANSPORTS = {TLS: "upstream.tls", HTTPS: "upstream.http2"}


def load(config: Config) -> Work:
    """Load all that a worker needs with this configuration; what is returned is to be called in each worker."""
    for name in _COOPERATING:
        import_module(f"gevent.{name}")
    schemes = {endpoint.scheme for endpoint in config.endpoints}
    for name in (*(_ADMIN if config.admin else ()), *(_TRANSPORTS[each] for each in schemes if each in _TRANSPORTS)):
        import_module(f"rdnscache.{name}")
    gc.freeze()  # or the collector of each worker would write to all of it, and the memory would be shared no more
    return _work


def _work(config: Config, inherited: Inherited, line: Lifeline, policies: GroupPolicies) -> int:
    # else plugins are looked for in every package that is installed, for each of 25 steps: 0.1 s
    gevent.events.notify_and_call_entry_points = gevent.events.notify
    monkey.patch_all()  # names in these modules are looked up when they are needed: it is early enough
    return run_worker(config, inherited, line, policies)
