"""Requests to a node's admin port."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from .node import Node
from .ports import free_port
from .upstream import Upstream
from .waiting import wait_for


def get(port: int, path: str) -> str:
    return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).read().decode()


def status_of(port: int, path: str) -> int:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@contextmanager
def watched(upstream: Upstream, redis: str, workers: int = 1, *args: str) -> Iterator[tuple[Node, int]]:
    """A node and its admin port, ready."""
    port = free_port()
    with Node([upstream.address], redis, workers, ("--admin", f"127.0.0.1:{port}", *args)) as node:
        wait_for(lambda: status_of(port, "/readyz") == 200, 10)
        yield node, port


def numbers(port: int) -> dict[str, float]:
    """Every sample of /metrics by its name and label values."""
    found = {}
    for family in text_string_to_metric_families(get(port, "/metrics")):
        for sample in family.samples:
            values = [value for _, value in sorted(sample.labels.items())]
            found[".".join((sample.name.removeprefix("rdnscache_"), *values))] = sample.value
    return found


def request(
    port: int, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: Any = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a reply; a body that is not a string is sent as JSON."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    link.request(method, path, body if body is None or isinstance(body, str) else json.dumps(body), headers or {})
    with link.getresponse() as reply:
        return reply.status, dict(reply.getheaders()), reply.read()


def page_status(port: int) -> Any:
    """The cluster as the live page gets it."""
    return json.loads(request(port, "/api/cluster")[2])
