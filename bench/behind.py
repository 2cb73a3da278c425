"""Hits of a node behind a balancer: dnsdist reports the clients by PROXY v2, over one socket or several."""

from __future__ import annotations

from collections.abc import Sequence

from bench import load
from bench.lab import Figures, Lab, Server
from bench.rows import Case, Row
from bench.servers import HERE, OURS, Kind, Setting, write_file

#: Sockets of dnsdist towards the node, 0 for none, and options of the node.
WAYS = {
    "direct": (0, ()),
    "dnsdist with 1 socket": (1, ()),
    "and replies one by one": (1, ("--udp-segments", "no")),
    "dnsdist with 8 sockets": (8, ()),
}


def _balancer(node: int, sockets: int) -> Kind:
    """dnsdist in front of a node, without a cache of its own."""

    def command(setting: Setting) -> list[str]:
        conf = f"""setLocal('{HERE}:{setting.port}')
setACL({{'127.0.0.0/8'}})
setSecurityPollSuffix('')
newServer({{address='{HERE}:{node}', checkName='up.bench.', useProxyProtocol=true, sockets={sockets}}})
"""
        return ["dnsdist", "--supervised", "--disable-syslog", "-C", write_file(setting, "dnsdist.conf", conf)]

    return Kind("dnsdist", "dnsdist", "dnsdist", ("dnsdist", "--version"), command)


def measure(lab: Lab, kind: Kind, sockets: int, args: Sequence[str]) -> Figures:
    names = load.hot_names()
    if not sockets:
        with lab.run(kind, *args) as server:
            lab.warm(server, names)
            return lab.cost(server, lab.write(load.shuffled(names)), seconds=lab.scale.seconds)
    with (
        lab.run(kind, "--proxy-from", "127.0.0.0/8", *args, ready=lambda port: True) as node,
        lab.run(_balancer(node.port, sockets), cpu=lab.load_cpu) as balancer,
    ):
        server = Server(kind, balancer.port, node.program)
        lab.warm(server, names)
        queries = lab.write(load.shuffled(names))
        return lab.cost(server, queries, others=[balancer.program], seconds=lab.scale.seconds)


def _cases(kinds: Sequence[Kind], _: bool) -> list[Case]:
    here = OURS[0] in kinds and _balancer(0, 1).present()
    return [
        Case(label, OURS[0], lambda lab, kind, how=how: measure(lab, kind, *how))
        for label, how in WAYS.items()
        if OURS[0] in kinds and (here or not how[0])
    ]


BEHIND = [Row("behind", "hits behind a balancer that sends PROXY v2", _cases, grows=True)]
