"""Moved to `support`."""

from support import (  # noqa: F401
    Load,
    Sentinel,
    Server,
    above_one,
    address_of,
    asked_at_once,
    in_order,
    nodes_on,
    telling,
    until_shared,
)
