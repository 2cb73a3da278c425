"""Compiles long lists on all CPUs of the machine: portions of lines are parsed in parallel."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rdnscache.breath import Breathe
from rdnscache.kernel import cpus, die_with_parent
from rdnscache.policy.compiled_list import ListFacts, Portion, compile_list, gather_portion, join_portions
from rdnscache.policy.json_text import is_json
from rdnscache.policy.list_text import MOST_ITEMS, MOST_OCTETS, Remark, begun
from rdnscache.policy.rpz_text import RPZ

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

#: Octets of a portion, about 200,000 names; a list that has no more is not divided.
PORTION = 4 << 20
#: Most processes at a time, and seconds between heartbeats while they work.
MOST_PROCESSES, BREATH = 4, 0.5


def compile_text(
    chunks: Iterable[bytes], facts: ListFacts, key: bytes, breathe: Breathe, lined: bool = True, portion: int = PORTION
) -> bytes:
    """Like `compile_list`, but faster. Raises ValueError as that does."""
    head, chunks = begun(chunks, portion)
    if facts.kind == RPZ or len(head) < portion or is_json(head) or cpus() < 2:
        return compile_list(chunks, facts, key, lined)
    import multiprocessing  # supervisors have this module as well, and few have long lists
    from concurrent.futures import ProcessPoolExecutor

    context, processes = multiprocessing.get_context("fork"), min(cpus(), MOST_PROCESSES)
    with ProcessPoolExecutor(processes, context, die_with_parent, (os.getpid(),)) as pool:
        return join_portions(list(_read(pool, chunks, facts, key, breathe, portion)), facts, key)


def _read(
    pool: ProcessPoolExecutor, chunks: Iterable[bytes], facts: ListFacts, key: bytes, breathe: Breathe, portion: int
) -> Iterator[Portion]:
    """The portions in order; as many are under way as there are processes, plus one waiting for each."""
    waiting: deque[Future[Portion]] = deque()
    names, line = 0, 1
    for text in portions_of(chunks, portion, facts):
        if names > MOST_ITEMS:
            facts.note(Remark(line, f"the rest of the list is ignored: it has more than {MOST_ITEMS} names"))
            break
        waiting.append(pool.submit(gather_portion, text, facts.kind, line, key))
        line += text.count(b"\n")
        if len(waiting) >= 2 * MOST_PROCESSES:
            done = _awaited(waiting.popleft(), breathe)
            names += done.facts.names
            yield done
    for future in waiting:
        yield _awaited(future, breathe)


def _awaited(future: Future[Portion], breathe: Breathe) -> Portion:
    while True:
        breathe()
        try:
            return future.result(BREATH)
        except TimeoutError:
            if future.done():
                raise


def portions_of(chunks: Iterable[bytes], portion: int, facts: ListFacts) -> Iterator[bytes]:
    """The text in portions of whole lines. A line as long as a portion is skipped, like all lines that are too long."""
    pending, octets, passing_over = b"", 0, False
    for chunk in chunks:
        octets += len(chunk)
        if octets > MOST_OCTETS:
            facts.note(Remark(1, f"everything after the first {MOST_OCTETS} octets is ignored"))
            break
        if passing_over:
            _, newline, chunk = chunk.partition(b"\n")
            passing_over = not newline
            pending += newline
        pending += chunk
        if len(pending) >= portion:
            end = pending.rfind(b"\n") + 1
            if not end:
                pending, passing_over = pending[:portion], True
                continue
            yield pending[:end]
            pending = pending[end:]
    if pending:
        yield pending
