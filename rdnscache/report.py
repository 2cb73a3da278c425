"""What a worker says of itself to the cluster, every few seconds; `rdnscache cluster status` shows it."""

from __future__ import annotations

import os
import time
from dataclasses import fields
from typing import Any

from rdnscache import __version__
from rdnscache.build import form
from rdnscache.config import Config, plain
from rdnscache.metrics import METRICS, Counters
from rdnscache.store.store import NoStore
from rdnscache.upstream.servers import Upstreams

#: Options that are a node's own; the others should be the same everywhere.
OWN = frozenset({"listen", "node_id", "admin", "workers", "log_level", "upstream_file"})


class Report:
    """The facts that do not change, made once, and those that do."""

    def __init__(self, config: Config, worker: int) -> None:
        values = {field.name: plain(getattr(config, field.name)) for field in fields(Config)}
        self._lasting = {
            "node": config.node_id,
            "worker": worker,
            "pid": os.getpid(),
            "version": __version__,
            "form": form(),
            "started": time.time(),
            "workers": config.workers,
            "listen": values["listen"],
            "config": {name: value for name, value in values.items() if name not in OWN},
        }

    def of(self, counters: Counters, store: NoStore, upstreams: Upstreams) -> dict[str, Any]:
        now = time.monotonic()
        return self._lasting | {
            "time": time.time(),
            "redis_ms": round(store.latency * 1000, 2),
            "counters": {metric.key: count for metric, count in zip(METRICS, counters.tolist(), strict=True)},
            "upstreams": [
                {
                    "address": str(server.address),
                    "ms": round(server.latency * 1000, 2),
                    "failures": server.failures,
                    "rests": max(round(server.rests_until - now, 1), 0),
                }
                for server in upstreams.servers
            ],
        }
