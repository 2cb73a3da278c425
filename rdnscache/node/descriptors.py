"""The limit of open files: each connection, each query to an upstream and each listening socket needs one.

This module computes how many connections and flights a worker may have within the limit.
"""

from __future__ import annotations

from dataclasses import replace

from rdnscache.config import Config
from rdnscache.errors import ConfigError

#: Reserve for everything else: links to Redis, requests to the admin port, connections of other workers, the log, the
#: event loop; in the supervisor, pipes and files that are open for a moment.
RESERVE = 192
#: The least that a worker needs, or the node does not start; and the part of the TCP connections kept free of flights.
LEAST_FLIGHTS, LEAST_CONNECTIONS, TCP_SHARE = 16, 8, 1 / 8


def fit(config: Config, limit: int) -> tuple[Config, str]:
    """The configuration adapted to a limit of open files, and a sentence about it if it had to be reduced.

    Raises ConfigError when a node could not work at all.
    """
    own = 2 * len(config.listen) + 2 + len(config.endpoints)
    bound = config.workers * (2 * len(config.listen) + 3) + RESERVE
    room = limit - RESERVE - own
    least = max(RESERVE + own + LEAST_FLIGHTS + LEAST_CONNECTIONS, bound)
    if limit < least:
        raise ConfigError(f"the limit of open files is {limit}, a node like this needs {least} at least (ulimit -n)")
    share = min(config.tcp_connections, max(int(room * TCP_SHARE), LEAST_CONNECTIONS))
    flights = min(config.max_flights, room - share)
    connections = min(config.tcp_connections, room - flights)
    if flights == config.max_flights and connections == config.tcp_connections:
        return config, ""
    wanted = RESERVE + own + config.max_flights + config.tcp_connections
    return (
        replace(config, max_flights=flights, tcp_connections=connections),
        f"the limit of open files is {limit}, not {wanted} (ulimit -n): each worker keeps {connections} TCP connections"
        f" (tcp_connections is {config.tcp_connections}) and resolves {flights} questions at a time"
        f" (max_flights is {config.max_flights})",
    )
