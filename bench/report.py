"""The results as JSON, as lines on a terminal and as tables in docs/performance.md."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

from bench.lab import Figures

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
COLUMNS = ("cpu_us", "qps", "p50_us", "p99_us", "lost", "ratio")
TITLES = {"cpu_us": "CPU µs/query", "qps": "queries/s", "p50_us": "p50 µs", "p99_us": "p99 µs", "lost": "lost"}
HIDDEN = {"queries", "latency_rate", "latency_lost", "fill_lost", "netem"}  # in the JSON only
Result = dict[str, Any]


def summary(rounds: list[Figures]) -> dict[str, Any]:
    """The rounds, and the median, minimum and maximum of each figure, NaN left out."""
    names = list(dict.fromkeys(name for figures in rounds for name in figures))
    values = {
        name: [figures[name] for figures in rounds if name in figures and math.isfinite(figures[name])]
        for name in names
    }
    rows = {
        label: {name: round(make(each), 3) for name, each in values.items() if each}
        for label, make in (("median", statistics.median), ("min", min), ("max", max))
    }
    kept = [
        {name: round(value, 3) if math.isfinite(value) else None for name, value in each.items()} for each in rounds
    ]
    return {"rounds": kept, **rows}


def ratios(row: Result) -> None:
    """Add ratios to each server's entry, round by round: rdnscache's figure divided by the server's; in rows that grow,
    the entry's figure divided by that of the first entry of the same form."""
    servers, figure = row["servers"], row["compared"]
    for label, entry in servers.items():
        form = label.partition(",")[0]
        base = next(each for each in servers if each.partition(",")[0] == form) if row["grows"] else "rdnscache"
        if base not in servers or label == base:
            continue
        pairs = zip(servers[base]["rounds"], entry["rounds"], strict=False)
        found = [(a.get(figure), b.get(figure)) for a, b in pairs]
        each = [b / a if row["grows"] else a / b for a, b in found if a and b]
        if each:
            middle = round(statistics.median(each), 2)
            entry["ratio"] = {"median": middle, "min": round(min(each), 2), "max": round(max(each), 2)}


def number(value: float | None) -> str:
    """A figure with three significant digits."""
    if value is None:
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def extras(entry: Result) -> str:
    """The figures without a column of their own."""
    hidden = {name for name in entry["median"] if name in HIDDEN or name in COLUMNS or name.startswith("redis_cmd_")}
    named = {name: value for name, value in entry["median"].items() if name not in hidden}
    quiet = {"failed": 0, "others_share": 0.1, "quiet_lost": 0}  # shown only above these values
    return ", ".join(f"{name} {number(value)}" for name, value in named.items() if value > quiet.get(name, -1))


def cells(entry: Result) -> list[str]:
    """The text of each column."""
    median = entry["median"] | {"ratio": entry.get("ratio", {}).get("median")}
    return [number(median.get(column)) for column in COLUMNS]


def lines(name: str, row: Result) -> str:
    """A row as text for a terminal."""
    said = [f"\n{name}: {row['about']}"]
    ratio = "x first" if row["grows"] else "rdns/it"
    said.append(f"  {'':26}" + "".join(f"{TITLES.get(column, ratio):>13}" for column in COLUMNS))
    for label, entry in row["servers"].items():
        said.append(f"  {label:26}" + "".join(f"{cell:>13}" for cell in cells(entry)))
        if more := extras(entry):
            said.append(f"    {more}")
    said += [f"  not measured: {text}" for text in row["failures"]]
    return "\n".join(said)


def markdown(result: Result) -> str:
    """All rows as tables."""
    machine, versions = result["machine"], result["versions"]
    said = [
        f"Measured {result['date']} on {machine['cpus']} CPUs ({machine['cpu']}), Linux {machine['kernel']}, "
        f"{machine['python']}; medians of {result['rounds']} round(s); `{result['command']}`.",
        "Versions: " + ", ".join(f"{name} {text.removeprefix(name + ' ')}" for name, text in versions.items()) + ".",
    ]
    for name, row in result["rows"].items():
        ratio = f"{row['compared']} ÷ the first's" if row["grows"] else f"rdnscache's {row['compared']} ÷ its"
        said += ["", f"### {name}", "", row["about"][0].upper() + row["about"][1:] + ".", ""]
        said.append("| server | " + " | ".join(TITLES.get(column, ratio) for column in COLUMNS) + " | more |")
        said.append("|---" * (len(COLUMNS) + 2) + "|")
        for label, entry in row["servers"].items():
            said.append(f"| {label} | " + " | ".join(cells(entry)) + f" | {extras(entry)} |")
        said += [f"\nNot measured: {text}" for text in row["failures"]]
    return "\n".join(said)


def save(result: Result, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['date'].replace(':', '')}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path


def publish(result: Result, page: Path) -> bool:
    """Replace the text between the two marks of the page; False if there is no such page or it has no marks."""
    text = page.read_text() if page.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return False
    page.write_text(f"{before}{BEGIN}\n\n{markdown(result)}\n\n{END}{after}")
    return True
