"""What has to hold for the stack. Each check says what it saw, and whether that is what it should be."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from flood import Flood, Score
from images import ROOT
from stack import Stack, wait_for

#: Queries per second while containers come and go.
RATE = 2000
#: Share of the questions that a client may have to ask twice while nodes are added: none, but for a busy machine.
ASKED_AGAIN = 0.01
#: Seconds allowed: from `up` to the first answer, for a container to end, for the balancer and Prometheus to follow.
FIRST_ANSWER, STOP, FOLLOW = 15.0, 14.0, 20.0
LAYERS = ("l1", "l2", "upstream", "flight", "follower")
ANSWERED = tuple(f'rdnscache_answers_total{{layer="{layer}"}}' for layer in LAYERS)
FOLLOWED = 'rdnscache_answers_total{layer="follower"}'
#: Panels without data: no upstream here is asked over TLS, and none has a budget.
UNUSED = ("Days until certificates end", "Upstream budgets")
ATTACHED, ERRORS = "rdnscache_redis_attached", "rdnscache_redis_errors_total"

Seen = tuple[bool, str]


def names_of(head: str, count: int) -> list[str]:
    return [f"{head}{number}.example.com" for number in range(count)]


def ask(stack: Stack, names: list[str], clients: int = 1, rate: float = 500) -> Score:
    """Several clients ask for the same names at the same time; the sum of their scores."""
    floods = [Flood(stack.port, names, rate) for _ in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        scores = list(pool.map(Flood.run, floods))
    whole = Score(worst=max(score.worst for score in scores))
    for score in scores:
        whole.asked, whole.answered = whole.asked + score.asked, whole.answered + score.answered
        whole.again, whole.lost = whole.again + score.again, whole.lost + score.lost
    return whole


def steady(stack: Stack, rate: float = RATE) -> Flood:
    return Flood(stack.port, itertools.cycle(names_of("n", 1000)), rate)


def once(stack: Stack, names: list[str], score: Score) -> Seen:
    """Everything answered, and every name asked upstream once."""
    heard = stack.asked(names)
    told = ", ".join(f"{count} names {times}x" for times, count in sorted(heard.items()))
    return score.answered == score.asked and heard == Counter({1: len(names)}), f"{score}; upstream heard {told}"


def comes_up(stack: Stack) -> Seen:
    """From `up` to the first answer through the balancer."""
    began = time.monotonic()
    stack.up(nodes=1)
    there = wait_for(lambda: Flood(stack.port, ["first.example.com"], 1000).run().lost == 0, FIRST_ANSWER)
    took = time.monotonic() - began
    return there and took < FIRST_ANSWER, f"{took:.1f} s"


def one_node(stack: Stack) -> Seen:
    """1,000 names through one node."""
    names = names_of("n", 1000)
    return once(stack, names, ask(stack, names))


def by_other_clients(stack: Stack) -> Seen:
    """dig, kdig and dnsperf, over UDP and TCP, those that are here."""
    port, told, good = str(stack.port), [], True
    for tool, way in itertools.product(("dig", "kdig"), ("+notcp", "+tcp")):
        if shutil.which(tool):
            answer = stack.engine.run(tool, "@127.0.0.1", "-p", port, way, "+short", "n1.example.com").strip()
            good &= answer == "192.0.2.1"
            told.append(f"{tool} {way}: {answer}")
    if shutil.which("dnsperf"):
        queries = stack.engine.folder / "queries"
        queries.write_text("".join(f"{name} A\n" for name in names_of("n", 1000)))
        for way in ("udp", "tcp"):
            words = ("-s", "127.0.0.1", "-p", port, "-d", str(queries), "-n", "1", "-m", way, "-Q", "1000")
            lost = re.search(r"Queries lost:\s+(\d+)", stack.engine.run("dnsperf", *words))
            good &= lost is not None and lost[1] == "0"
            told.append(f"dnsperf {way}: {lost[1] if lost else '?'} of 1000 lost")
    return good and bool(told), ", ".join(told)


def known_to_new_nodes(stack: Stack) -> Seen:
    """1 -> 3 nodes; the new ones find those names in Redis."""
    before = set(stack.ids())
    stack.up(nodes=3)
    new = [container for container in stack.ids() if container not in before]
    names = names_of("n", 1000)
    good, told = True, ""
    deadline = time.monotonic() + FOLLOW
    while time.monotonic() < deadline:  # until the balancer sends them something
        good, told = once(stack, names, ask(stack, names, clients=3))
        worked = [sum(stack.metrics(container)[name] for name in ANSWERED) for container in new]
        if not good or all(worked):
            break
    return good and len(new) == 2 and all(worked), f"{told}; the new nodes answered {_numbers(worked)}"


def asked_by_three(stack: Stack) -> Seen:
    """1,000 cold names, three clients at once, three nodes."""
    names = names_of("cold", 1000)
    return once(stack, names, ask(stack, names, clients=3))


def slow_upstream(stack: Stack) -> Seen:
    """100 cold names that take the upstream 0.5 s, six clients at once: nodes follow each other."""
    names = names_of("slow", 100)
    before = stack.total(FOLLOWED)
    good, told = once(stack, names, ask(stack, names, clients=6))
    followed = stack.total(FOLLOWED) - before
    return good and followed > 0, f"{told}; {followed:.0f} answers came by following another node"


def readable(stack: Stack) -> Seen:
    """redis-cli in the container shows an answer; no command of the nodes failed."""
    answer = stack.redis_cli("--raw", "HGET", "rdns:1:{n7.example.com.}:A", "answer").strip()
    failed = stack.total(ERRORS)
    good = answer == "n7.example.com. 3600 IN A 192.0.2.1" and failed == 0
    return good, f"{answer!r}; {failed:.0f} commands failed"


def steered(stack: Stack) -> Seen:
    """`cache flush` is confirmed by every node."""
    told = stack.cli("cache", "flush", "n7.example.com").strip()
    return "confirmed by 3/3 nodes" in told, told


def scales_up_under_load(stack: Stack) -> Seen:
    """3 -> 5 nodes under 2,000 queries/s."""
    before = set(stack.ids())
    with steady(stack) as flood:
        time.sleep(1)
        stack.up(nodes=5)
        new = [container for container in stack.ids() if container not in before]

        def all_work() -> bool:
            return all(any(stack.metrics(each)[name] for name in ANSWERED) for each in new)

        worked = wait_for(all_work, FOLLOW)
    few = flood.score.again <= ASKED_AGAIN * flood.score.asked
    good = worked and len(new) == 2 and flood.score.lost == 0 and few
    return good, f"{flood.score}; the new nodes {'took part' if worked else 'got nothing'}"


def watched(stack: Stack) -> Seen:
    """Prometheus has found all nodes, and they are up."""
    good = wait_for(lambda: stack.targets() == Counter(up=5), FOLLOW)
    return good, ", ".join(f"{count} {state}" for state, count in stack.targets().items()) or "nothing"


def dashboard(stack: Stack) -> Seen:
    """Prometheus has data for every panel of the dashboard about something that this cluster uses."""
    text = (ROOT / "deploy/grafana/rdnscache.json").read_text()
    panels = {
        target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*"): panel["title"]
        for panel in json.loads(text)["panels"]
        if panel["title"] not in UNUSED
        for target in panel["targets"]
    }

    def empty() -> list[str]:
        found = [(title, stack.ask_prometheus("query", query=expr)) for expr, title in panels.items()]
        return [title for title, told in found if not (told and told["result"])]

    good = wait_for(lambda: not empty(), FOLLOW)
    return good, f"{len(panels)} expressions" if good else f"nothing for: {', '.join(sorted(set(empty())))}"


def real_clients(stack: Stack) -> Seen:
    """The nodes' logs name the clients, not the balancer."""
    (balancer,) = stack.ids("balancer")
    clients, own = stack.clients(), stack.address(balancer)
    return bool(clients) and own not in clients, f"{', '.join(sorted(clients))}; the balancer is {own}"


def loses_a_node(stack: Stack) -> Seen:
    """One node is stopped under 2,000 queries/s; clients may have to ask again."""
    with steady(stack) as flood:
        time.sleep(1)
        took, code = stack.stop(stack.ids()[0])
        time.sleep(3)
    stack.up(nodes=5)
    good = flood.score.lost == 0 and took < STOP and code == 0
    return good, f"{flood.score}; the container ended in {took:.1f} s with {code}"


def loses_redis(stack: Stack) -> Seen:
    """Redis is killed under 2,000 queries/s, and 300 cold names are asked for meanwhile."""
    names = names_of("without", 300)
    (redis,) = stack.ids("redis")
    with steady(stack) as flood:
        time.sleep(1)
        stack.docker("kill", redis)
        cold = ask(stack, names)
    heard = stack.asked(names)
    good = flood.score.lost == cold.lost == 0 and min(heard) > 0 and max(heard) <= len(stack.ids())
    return good, f"{flood.score}; cold: {cold}; upstream heard a name {max(heard)}x at most"


def finds_redis_again(stack: Stack) -> Seen:
    """Redis is back, empty: every node uses it again, and 300 cold names are asked upstream once each."""
    (redis,) = stack.ids("redis")
    stack.docker("start", redis)
    nodes = stack.ids()
    back = wait_for(lambda: stack.total(ATTACHED) == len(nodes), FOLLOW)
    names = names_of("again", 300)
    good, told = once(stack, names, ask(stack, names, clients=3))
    return back and good, told


def rolls(stack: Stack) -> Seen:
    """Every node is replaced (deploy/roll.sh) under 2,000 queries/s."""
    before = set(stack.ids())
    with steady(stack) as flood:
        stack.engine.run("sh", str(ROOT / "deploy/roll.sh"), env={"COMPOSE": " ".join(stack.command)})
        time.sleep(2)
    after = set(stack.ids())
    good = flood.score.lost == 0 and len(after) == 5 and not before & after
    return good, f"{flood.score}; {len(after - before)} new nodes, {len(after & before)} old"


def ends(stack: Stack) -> Seen:
    """All nodes end in good order, within the stop period."""
    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(stack.stop, stack.ids()))
    slowest = max(took for took, _ in ended)
    codes = sorted({code for _, code in ended})
    return slowest < STOP and codes == [0], f"slowest {slowest:.1f} s, exit codes {codes}"


def _numbers(values: list[float]) -> str:
    return " and ".join(f"{value:.0f}" for value in values)


CHECKS = (
    comes_up, one_node, by_other_clients, known_to_new_nodes, asked_by_three, slow_upstream, readable, steered,
    scales_up_under_load, watched, dashboard, real_clients, loses_a_node, loses_redis, finds_redis_again, rolls, ends,
)  # fmt: skip


def all_checks(stack: Stack) -> Iterator[tuple[str, bool, str]]:
    """What each check is about, whether it holds, and what it saw."""
    for check in CHECKS:
        good, told = check(stack)
        yield (check.__doc__ or "").strip(), good, told
