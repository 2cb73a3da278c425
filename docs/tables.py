"""Writes the tables of configuration.md and metrics.md anew: `.venv/bin/python docs/tables.py`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from rdnscache.config import options
from rdnscache.config_text import default_text, env_name, flag_name, toml_name
from rdnscache.metrics import BUDGET_METRICS, CERTIFICATE_EXPIRY, COUNTER, METRICS, SERVER_METRICS

FOLDER = Path(__file__).parent


def option_rows() -> Iterator[str]:
    yield "| option | environment | TOML key | default | meaning |"
    yield "|---|---|---|---|---|"
    for option in options():
        flag = f"{flag_name(option)} {option.metadata['metavar']}".replace("|", "\\|")
        meaning = option.metadata["help"]
        yield f"| `{flag}` | `{env_name(option)}` | `{toml_name(option)}` | {default_text(option)} | {meaning} |"


def metric_rows() -> Iterator[str]:
    yield "| metric | kind | labels | meaning |"
    yield "|---|---|---|---|"
    for name, group in groupby((*METRICS, *SERVER_METRICS, *BUDGET_METRICS), key=lambda metric: metric.name):
        same = list(group)
        labels: dict[str, dict[str, None]] = {}
        for label, value in (pair for metric in same for pair in metric.labels):
            labels.setdefault(label, {})[value] = None
        shown = "; ".join(f"`{label}`: {', '.join(values)}" for label, values in labels.items())
        if same[0] in SERVER_METRICS:
            shown = "`upstream`: its address, or other"
        if same[0] in BUDGET_METRICS:
            shown = "`upstream`: its address"
        full = f"rdnscache_{name}" + ("_total" if same[0].kind == COUNTER else "")
        yield f"| `{full}` | {same[0].kind} | {shown} | {same[0].help} |"
    ends = CERTIFICATE_EXPIRY
    yield f"| `rdnscache_{ends.name}` | {ends.kind} | `file`: where it is | {ends.help} |"
    yield "| `rdnscache_build_info` | info | `version`, `form` | The version, and the form of the hot modules. |"


def replace_table(file: Path, rows: list[str]) -> None:
    text = file.read_text()
    start = text.index(rows[0])
    file.write_text(text[:start] + "\n".join(rows) + text[text.index("\n\n", start) :])


if __name__ == "__main__":
    replace_table(FOLDER / "configuration.md", list(option_rows()))
    replace_table(FOLDER / "metrics.md", list(metric_rows()))
