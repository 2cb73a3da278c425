"""HTTP for operators: /metrics, /healthz and /readyz. Every worker serves the one listener; the numbers are shared."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

import gevent.socket
from gevent.pywsgi import WSGIServer
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rdnscache.metrics import METRICS, Board


class Admin:
    """The worker's part in the admin port."""

    def __init__(self, listener: socket.socket, board: Board) -> None:
        sock = gevent.socket.socket(fileno=listener.detach())
        sock.setblocking(False)
        self._server = WSGIServer(sock, self._answer, log=None)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Exposition(board))
        self.draining = False

    def start(self) -> None:
        self._server.start()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            start("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
            return [generate_latest(self._registry)]
        if path in ("/healthz", "/readyz"):
            bad = self.draining and path == "/readyz"
            start("503 Service Unavailable" if bad else "200 OK", [("Content-Type", "text/plain")])
            return [b"draining\n" if bad else b"ok\n"]
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"try /metrics, /healthz or /readyz\n"]


class _Exposition:
    """The board's totals as Prometheus metric families."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Any] = {}
        for metric, total in zip(METRICS, self._board.totals(), strict=True):
            family = families.get(metric.name)
            if family is None:
                kind = GaugeMetricFamily if metric.gauge else CounterMetricFamily
                labels = [metric.label] if metric.label else []
                family = families[metric.name] = kind(f"rdnscache_{metric.name}", metric.help, labels=labels)
            family.add_metric([metric.value] if metric.label else [], total)
        return families.values()
