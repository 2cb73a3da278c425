"""One cache for all workers of a node, or one for each: `python -m bench.node_table [--rounds 3] [NAMES]`.

The table of node_table.c under names drawn by Zipf's law, which 1 to 8 processes look up, the same number of times in
all, with room for all names and for a tenth of them. Prints medians of alternating rounds, and how many were wrong.
docs/decisions.md says what follows from it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

WORKERS = (1, 2, 4, 8)
NAMES, LOOKUPS = 200_000, 4_000_000
#: Octets of an entry of node_table.c with what the index needs for it, on average.
ENTRY = 155


def table_of(folder: str) -> str:
    source, binary = Path(__file__).with_name("node_table.c"), f"{folder}/node_table"
    subprocess.run(["gcc", "-O2", str(source), "-o", binary, "-lm"], check=True)
    return binary


def measured(
    binary: str, workers: int, names: int, room: int, *, shared: bool, killed: bool = False
) -> dict[str, float]:
    words = [workers, int(shared), names, LOOKUPS, room, int(killed)]
    done = subprocess.run([binary, *map(str, words)], capture_output=True, text=True, timeout=300, check=False)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def rounds(binary: str, names: int, count: int) -> Iterator[tuple[tuple[str, int, str], dict[str, float]]]:
    """Each measurement, with the room there is, the number of workers and whose the table is."""
    # A worker whose table is its own has room for all names, and so has the one table that they share.
    everything, tenth = 3 * ENTRY * names, ENTRY * names // 10
    for _ in range(count):
        for workers in WORKERS:
            for room, own, shared in (("all", everything * workers, everything), ("a tenth", tenth, tenth)):
                yield (room, workers, "its own"), measured(binary, workers, names, own, shared=False)
                yield (room, workers, "shared"), measured(binary, workers, names, shared, shared=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("names", nargs="?", type=int, default=NAMES)
    options = parser.parse_args()
    found: dict[tuple[str, int, str], list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        binary = table_of(folder)
        for setting, values in rounds(binary, options.names, options.rounds):
            found[setting].append(values)
        killed = measured(binary, 4, options.names, ENTRY * options.names // 10, shared=True, killed=True)
    print("| room for | workers | table | CPU ns/look-up | filled | MB |\n|---|---|---|---|---|---|")
    for (room, workers, kind), runs in sorted(found.items()):
        middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        cpu = middle["ns"] - middle["without_ns"]
        print(f"| {room} | {workers} | {kind} | {cpu:.0f} | {middle['fills']:,.0f} | {middle['octets'] / 1e6:.1f} |")
    wrong = sum(run["wrong"] for runs in found.values() for run in runs)
    print(f"\nwrong answers: {wrong:.0f}; with a worker killed on the way: {killed['wrong']:.0f}")


if __name__ == "__main__":
    main()
