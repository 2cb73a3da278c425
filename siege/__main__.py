"""`python -m siege`: attacks on a node of two workers with honest clients; exit code 1 if a bound does not hold.

In some rows unbound is attacked in the same way, for comparison; its bounds are printed only.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from chaos.cluster import ChaosError
from siege.lab import NODE, UNBOUND, Lab, finished, pause
from siege.meddlers import ORDERS, Hostile, Seen
from siege.rows import ROWS, Found, Row, judged, nothing, table

#: Seconds without attack; of an attack before honest clients are measured; of the measurement; until memory is measured
#: again.
QUIET, LEAD, UNDER, REST = 1.5, 2.0, 4.0, 10.0


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m siege", description="Attacks on a node, and honest clients meanwhile."
    )
    names = ", ".join(row.name for row in ROWS)
    parser.add_argument("--rows", metavar="NAMES", help=f"rows, separated by commas: {names}")
    parser.add_argument("--seconds", type=float, default=UNDER, help="of the measurement (%(default)g)")
    parser.add_argument("--rest", type=float, default=REST, help="until memory is measured again (%(default)g)")
    parser.add_argument("--alone", action="store_true", help="without unbound")
    parser.add_argument("--untimed", action="store_true", help="do not fail because of times, for busy machines")
    parser.add_argument("--json", metavar="FILE", type=Path, help="file for the figures")
    return parser.parse_args()


def chosen(text: str | None) -> Sequence[Row]:
    if text is None:
        return ROWS
    known = {row.name: row for row in ROWS}
    wanted = [word.strip() for word in text.split(",")]
    unknown = ", ".join(sorted(set(wanted) - set(known)))
    if unknown:
        raise ChaosError(f"unknown row: {unknown}")
    return [known[name] for name in wanted]


def besiege(row: Row, server: str, seconds: float, rest: float) -> Found:
    hostile = Hostile(row.redis) if row.redis else None
    words = [*row.options] + (["--redis", f"redis://127.0.0.1:{hostile.port}"] if hostile else [])
    try:
        with Lab(server, words) as lab:
            quiet = lab.honest(QUIET, "quiet")
            before = lab.memory()
            with lab.watched() as most:
                seen, under = endure(row, lab, seconds)
            pause(rest if server == NODE else 0)
            return Found(row.name, row.text, server, quiet, under, (before, most[0], lab.memory()), seen)
    finally:
        if hostile is not None:
            hostile.close()


def endure(row: Row, lab: Lab, seconds: float) -> tuple[Seen, dict[str, dict[str, float]]]:
    """The results of the attack, and of the honest clients meanwhile or afterwards."""
    seen: Seen = {}
    attack = lab.attack(row.attack, LEAD + seconds, row.number) if row.attack else None

    def meddle() -> None:
        if row.meddler is not None:
            seen.update(row.meddler(lab, seconds))

    if attack is not None:
        pause(LEAD)
    thread = threading.Thread(target=meddle)
    thread.start()
    if row.afterwards:
        thread.join()
    under = lab.honest(seconds, "under")
    thread.join()
    if attack is not None:
        seen.update(finished(attack))
    return seen, under


def main() -> int:
    told = options()
    signal.pthread_sigmask(signal.SIG_BLOCK, ORDERS)  # a row looks whether somebody sends us one
    found: list[Found] = []
    try:
        for row in chosen(told.rows):
            servers = [NODE, UNBOUND] if row.beside and not told.alone and shutil.which("unbound") else [NODE]
            for server in servers:
                print(f"{row.name}, {server} …", file=sys.stderr, flush=True)
                try:
                    each = besiege(row, server, told.seconds, told.rest)
                    each.broken = judged(row, each, not told.untimed)
                except ChaosError as error:  # it did not start, or not end
                    each = nothing(row, server)
                    each.broken = [str(error)]
                found.append(each)
    except ChaosError as error:
        print(f"Error: {error}.", file=sys.stderr)
        return 1
    finally:
        if found:
            print(table(found))
        if told.json:
            told.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")
    return 1 if any(each.broken for each in found if each.server == NODE) else 0


if __name__ == "__main__":
    sys.exit(main())
