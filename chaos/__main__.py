"""`python -m chaos`: three nodes under load while things break; exit code 1 when an answer is lost or wrong.

`python -m chaos soak` does that at random for long and follows the memory; `python -m chaos pause` measures what a
silent Redis costs. `python -m chaos model` tries every order of a flush and the flights beside it.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from chaos import orders, pause, rows, soak
from chaos.cluster import ChaosError, Cluster
from chaos.faults import FAULTS, FLUSHES, PROOFS, QUIET, Fault, fail_over, storm
from chaos.topologies import ELECTIONS, Elected

#: Maximum log lines of the clients that are shown.
COMPLAINTS = 40
#: Queries a second; seconds that the clients go on after each recovery.
RATE, REST = 400.0, 3.0


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Three nodes under load while things break.")
    parser.add_argument("what", nargs="?", choices=("rows", "soak", "pause", "model"), default="rows")
    every = [*(fault.name for fault in (*FAULTS, *PROOFS)), "flushes", *(fault.name for fault, _ in ELECTIONS)]
    names = ", ".join(every)
    parser.add_argument("--rows", metavar="NAMES", help=f"faults, separated by commas: {names}")
    parser.add_argument("--rate", type=float, default=RATE, help="queries a second (default %(default)g)")
    parser.add_argument("--rest", type=float, default=REST, help="seconds after each recovery (default %(default)g)")
    parser.add_argument("--brief", action="store_true", help="each fault once, and as short as possible")
    parser.add_argument("--flushes", type=int, default=FLUSHES, help="flushes in the row (default %(default)d)")
    parser.add_argument("--failover", metavar="COMMAND", help="one more row: this command makes the primary fail over")
    parser.add_argument("--minutes", type=float, default=20.0, help="duration of a soak (default %(default)g)")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="file for a chart of a soak's memory")
    parser.add_argument("--json", metavar="FILE", type=Path, help="file for the figures")
    return parser.parse_args()


def chosen(told: argparse.Namespace) -> tuple[list[Fault], list[str]]:
    """The named faults, and elections; if none is named, all faults, between two quiet rows."""
    more = [fail_over(told.failover)] if told.failover else []
    every = [*FAULTS, *PROOFS, storm(told.flushes), *more]
    elections = [fault.name for fault, _ in ELECTIONS]
    if told.rows is None:
        return [QUIET, *every, QUIET], elections
    known = {fault.name: fault for fault in (*every, QUIET)}
    wanted = [word.strip() for word in told.rows.split(",")]
    unknown = ", ".join(sorted(set(wanted) - set(known) - set(elections)))
    if unknown:
        raise ChaosError(f"unknown row: {unknown}")
    return [known[name] for name in wanted if name in known], [name for name in elections if name in wanted]


def break_things(told: argparse.Namespace) -> int:
    faults, elections = chosen(told)
    found = run(Cluster(told.rate, brief=told.brief), faults, told.rest) if faults else []
    for fault, topology in ELECTIONS:
        if fault.name in elections:
            found += run(Elected(told.rate, topology), [fault], told.rest)
    print(rows.table(found))
    if told.json:
        told.json.write_text(json.dumps(rows.as_json(found), indent=1) + "\n")
    return 0 if all(row.good for row in found) else 1


def run(cluster: Cluster, faults: Sequence[Fault], rest: float) -> list[rows.Row]:
    with cluster:
        rows.recovery(cluster)
        found = [rows.run(cluster, fault, rest) for fault in faults]
        rows.settle(cluster, found)
        log = cluster.client.log.read_text()
        cluster.keeps_logs = not all(row.good for row in found)
    print(f"The upstream itself was late by {cluster.upstream.late:.2f} s at most.", file=sys.stderr)
    print(complaints(log), end="", file=sys.stderr)
    return found


def complaints(log: str) -> str:
    """The log lines of the clients, errors before slow answers."""
    lines = sorted(log.splitlines(keepends=True), key=lambda line: "answered at try" in line)
    return "".join(lines[:COMPLAINTS])


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all processes are ended
    told = options()
    try:
        return {"rows": break_things, "soak": soak.main, "pause": pause.main, "model": orders.main}[told.what](told)
    except ChaosError as error:
        print(f"Error: {error}.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
