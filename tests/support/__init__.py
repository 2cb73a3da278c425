"""Real parts for the tests: upstreams, nodes, Redis servers, clients. Nothing here replaces code of the project."""

from .admin import get, numbers, page_status, request, status_of, watched
from .load import Load, SteadyLoad, above_one, address_of, asked_at_once, steady_load, telling, until_shared
from .messages import (
    Handler,
    Reply,
    address,
    addresses,
    answer,
    answer_of,
    ask,
    cut_off,
    default_handler,
    extended_errors,
    failure,
    key_of,
    negative,
    refusing,
    says,
    timed,
)
from .node import ExecutedNode, Node, attached, cluster, fill_all_workers, members, nodes_on, wait_until_at_work
from .ports import free_port
from .processes import ROOT, alive, children_of, clean_env, command, run
from .redis_cluster import RedisCluster, running_cluster
from .relay import ChaosRelay, Relay
from .servers import KINDS, RedisServer, Sentinel, Server
from .streams import Asked, Peer, StreamServer, all_ended, answered, answering, sent, turning
from .upstream import Changing, Upstream
from .waiting import in_order, wait_for

__all__ = [
    "KINDS", "ROOT", "Asked", "Changing", "ChaosRelay", "ExecutedNode", "Handler", "Load", "Node", "Peer",
    "RedisCluster", "RedisServer", "Relay", "Reply", "Sentinel", "Server", "SteadyLoad", "StreamServer", "Upstream",
    "above_one", "address", "address_of", "addresses", "alive", "all_ended", "answer", "answer_of", "answered",
    "answering", "ask", "asked_at_once", "attached", "children_of", "clean_env", "cluster", "command", "cut_off",
    "default_handler", "extended_errors", "failure", "fill_all_workers", "free_port", "get", "in_order", "key_of",
    "members", "negative", "nodes_on", "numbers", "page_status", "refusing", "request", "run", "running_cluster",
    "says", "sent", "status_of", "steady_load", "telling", "timed", "turning", "until_shared", "wait_for",
    "wait_until_at_work", "watched",
]  # fmt: skip
