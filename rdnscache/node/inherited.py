"""What a worker gets from its supervisor."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from rdnscache.address import Address
from rdnscache.kernel import Incarnation
from rdnscache.metrics import Board
from rdnscache.node.sockets import Slot


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a worker gets from its supervisor."""

    worker: int
    slot: Slot
    #: Sockets at which the node's other workers ask this one, and those addresses of all workers.
    inner: Slot
    siblings: list[Address]
    admin: socket.socket | None
    board: Board
    redis_url: str | None
    incarnation: Incarnation
