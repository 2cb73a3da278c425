"""A node's metrics in Prometheus' text format (version 0.0.4), as served under /metrics.

Formatted here and not by a library: a node with 31 upstreams has 1,000 lines, and making an object of each would block
the hub for 15 to 45 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from rdnscache import __version__
from rdnscache.forms import form
from rdnscache.metrics import BOUNDS, COUNTER, HISTOGRAM, Board, Labels, Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUND_TEXTS = (*(repr(bound) for bound in BOUNDS), "+Inf")


def exposition(board: Board, own: Sequence[Sample] = ()) -> bytes:
    """The text for the numbers on the board and for `samples` of the node; all samples of a metric are together."""
    lines: list[str] = []
    last = ""
    for sample in (*board.samples(), *own):
        name = f"rdnscache_{sample.metric.name}" + ("_total" if sample.metric.kind == COUNTER else "")
        if name != last:
            lines += (f"# HELP {name} {sample.metric.help}", f"# TYPE {name} {sample.metric.kind}")
            last = name
        lines += _histogram(name, sample) if sample.metric.kind == HISTOGRAM else _number(name, sample)
    name = "rdnscache_build_info"
    lines += (f"# HELP {name} The version, and the form of the hot modules.", f"# TYPE {name} gauge")
    lines.append(f"{name}{_labels((('version', __version__), ('form', form())))} 1.0")
    return ("\n".join(lines) + "\n").encode()


def _number(name: str, sample: Sample) -> Iterable[str]:
    return (f"{name}{_labels(sample.labels)} {float(sample.value)!r}",)


def _histogram(name: str, sample: Sample) -> Iterable[str]:
    labels, bucket = _labels(sample.labels), _labels((*sample.labels, ("le", "%s")))
    total = 0
    for bound, total in zip(_BOUND_TEXTS, accumulate(sample.buckets), strict=True):
        yield f"{name}_bucket{bucket % bound} {float(total)!r}"
    yield f"{name}_count{labels} {float(total)!r}"
    yield f"{name}_sum{labels} {float(sample.value)!r}"


def _labels(labels: Labels) -> str:
    """Labels in braces. Their values are names of layers and addresses, which need no escaping."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(labels)) + "}" if labels else ""
