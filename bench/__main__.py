"""`python -m bench`: measures rdnscache and other DNS servers on this machine. It needs two CPUs and about half an
hour, three minutes with `--quick`."""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from bench import report
from bench.behind import BEHIND
from bench.blocking import BLOCKING
from bench.choosing import CHOOSING
from bench.commands import COMMANDS_ROW
from bench.extras import EXTRAS
from bench.flood import FLOOD_ROW
from bench.grow import GROW
from bench.lab import Figures, Lab, Scale
from bench.rows import ROWS, Case, Row
from bench.servers import DNSPERF, ECHO, KINDS, NSD, PEERS, PURE, RDNSCACHE, REDIS, Kind, version
from bench.system import BenchError, machine
from bench.transports import TRANSPORTS
from bench.views import VIEWS

ROOT = Path(__file__).absolute().parents[1]
ALL_ROWS = [*ROWS, FLOOD_ROW, *GROW, *EXTRAS, *TRANSPORTS, *CHOOSING, *BLOCKING, *VIEWS, *BEHIND, COMMANDS_ROW]


def options() -> argparse.Namespace:
    names = ", ".join(row.name for row in ALL_ROWS)
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures rdnscache and other DNS servers.")
    parser.add_argument("--rows", metavar="NAMES", help=f"rows, separated by commas; `grow` means all grow-…: {names}")
    parser.add_argument("--peers", metavar="NAMES", help=f"servers to compare with: {', '.join(k.name for k in KINDS)}")
    parser.add_argument("--rounds", type=int, help="number of rounds (default 3, quick 1)")
    parser.add_argument("--seconds", type=float, help="duration of each load of hot names (default 4, quick 1)")
    parser.add_argument("--queries", type=int, help="cold names of each load (default 40000, quick 8000)")
    parser.add_argument("--quick", action="store_true", help="one round of small loads, unless set by other options")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"), help="folder of the JSON file")
    parser.add_argument("--publish", metavar="JSON", type=Path, help="only write this result to docs/performance.md")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 3)
    return chosen


def chosen_rows(text: str | None) -> list[Row]:
    """The named rows; BenchError for an unknown name."""
    wanted = [word.strip() for word in text.split(",")] if text else [row.name for row in ALL_ROWS]
    found = [row for row in ALL_ROWS if row.name in wanted or row.name.partition("-")[0] in set(wanted) & {"grow"}]
    unknown = set(wanted) - {row.name for row in found} - {"grow"}
    if unknown:
        raise BenchError(f"Unknown row: {', '.join(sorted(unknown))}.")
    return found


def chosen_kinds(text: str | None) -> list[Kind]:
    """The named servers that are installed; prints a line for each one that is not."""
    by_name = {kind.name: kind for kind in KINDS} | {"pure": PURE}
    if text is None:
        compiled = "pure" not in version(RDNSCACHE)
        wanted = [ECHO, RDNSCACHE, *([PURE] if compiled else []), *PEERS]
    else:
        names = [word.strip() for word in text.split(",") if word.strip()]
        unknown = set(names) - set(by_name)
        if unknown:
            raise BenchError(f"Unknown server: {', '.join(sorted(unknown))}.")
        wanted = [RDNSCACHE, *(by_name[name] for name in names if name != "rdnscache")]
    return list(present(wanted))


def present(kinds: Iterable[Kind]) -> Iterable[Kind]:
    for kind in kinds:
        if kind.present():
            yield kind
        else:
            package = f"Debian package {kind.package}" if kind.package != "none" else "in no Debian package"
            print(f"{kind.name} is left out: {kind.program} is not installed ({package}).")


def check_tools() -> bool:
    """Whether redis-server is installed; BenchError if a tool that every row needs is not."""
    for program in ("dnsperf", "nsd", "taskset"):
        if shutil.which(program) is None:
            package = "util-linux" if program == "taskset" else program
            raise BenchError(f"{program} is not installed, and every row needs it (Debian package {package}).")
    if not REDIS.present():
        print("Rows with Redis are left out: redis-server is not installed (Debian package redis-server).")
    return REDIS.present()


def measure(lab: Lab, row: Row, kinds: list[Kind], rounds: int, quick: bool) -> report.Result:
    """Measure all rounds of one row."""
    cases = row.cases(kinds, quick)
    found: dict[str, list[Figures]] = {case.label: [] for case in cases}
    failures: list[str] = []
    rounds = 1 if row.once else rounds
    for turn in range(rounds):
        for case in cases:
            progress(f"  {row.name} {turn + 1}/{rounds} {case.label}")
            found[case.label].append(figures_of(lab, case, failures))
    progress("")
    servers = {label: report.summary(each) for label, each in found.items() if any(each)}
    about = {"about": row.about, "compared": row.compared, "grows": row.grows}
    result = {**about, "servers": servers, "failures": failures}
    report.ratios(result)
    return result


def progress(text: str) -> None:
    """Show what is being measured on the last line of a terminal."""
    if sys.stderr.isatty():
        print(text.ljust(78), end="\r", file=sys.stderr, flush=True)


def figures_of(lab: Lab, case: Case, failures: list[str]) -> Figures:
    """The figures of a case; empty if it failed, so that rounds stay aligned."""
    try:
        return case.measure(lab, case.kind)
    except (BenchError, OSError) as error:
        failures.append(f"{case.label}: {error}")
        return {}


def run(chosen: argparse.Namespace) -> None:
    rows, redis_here = chosen_rows(chosen.rows), check_tools()
    kinds = chosen_kinds(chosen.peers)
    quick = chosen.quick
    scale = Scale(1, 8000, 2000) if quick else Scale(4, 40000, 8000)
    lab = Lab(Scale(chosen.seconds or scale.seconds, chosen.queries or scale.cold, scale.samples))
    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    result: report.Result = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": command,
        "machine": machine(),
        "versions": {kind.name: version(kind) for kind in (*kinds, NSD, REDIS, DNSPERF)},
        "rounds": chosen.rounds,
        "rows": {},
    }
    print(f"{command}: CPU {lab.server_cpu} serves, CPU {lab.load_cpu} asks; {result['versions']['rdnscache']}")
    try:
        with lab.nsd():
            for row in rows:
                if row.needs_redis and not redis_here:
                    continue
                result["rows"][row.name] = measure(lab, row, kinds, chosen.rounds, quick)
                print(report.lines(row.name, result["rows"][row.name]), flush=True)
    finally:
        lab.close()
        if result["rows"]:
            print(f"\n{report.save(result, chosen.out)}")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    chosen = options()
    try:
        if chosen.publish:
            page = ROOT / "docs" / "performance.md"
            done = report.publish(json.loads(chosen.publish.read_text()), page)
            print(f"{page.name} is updated." if done else f"{page.name} is missing or has no marks.")
            return
        run(chosen)
    except (BenchError, subprocess.SubprocessError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
