"""A node's numbers as Prometheus metric families."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from rdnscache import __version__
from rdnscache.build import form
from rdnscache.metrics import BOUNDS, COUNTER, GAUGE, HISTOGRAM, Board, Sample

_FAMILIES: dict[str, Any] = {
    COUNTER: CounterMetricFamily,
    GAUGE: GaugeMetricFamily,
    HISTOGRAM: HistogramMetricFamily,
}
_BOUND_TEXTS = (*(repr(bound) for bound in BOUNDS), "+Inf")


def make_registry(board: Board) -> CollectorRegistry:
    """What `generate_latest` makes the text of /metrics from."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Exposition(board))
    return registry


class _Exposition:
    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Any] = {}
        for sample in self._board.samples():
            metric = sample.metric
            family = families.get(metric.name)
            if family is None:
                make = _FAMILIES[metric.kind]
                names = [name for name, _ in sample.labels]
                family = families[metric.name] = make(f"rdnscache_{metric.name}", metric.help, labels=names)
            _add(family, sample)
        about = InfoMetricFamily("rdnscache_build", "The version, and the form of the hot modules.")
        about.add_metric([], {"version": __version__, "form": form()})
        return [*families.values(), about]


def _add(family: Any, sample: Sample) -> None:
    values = [value for _, value in sample.labels]
    if sample.metric.kind != HISTOGRAM:
        family.add_metric(values, sample.value)
        return
    total, buckets = 0, []
    for bound, count in zip(_BOUND_TEXTS, sample.buckets, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric(values, buckets, sample.value)
