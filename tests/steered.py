"""Moved to `support`."""

from support import Changing, Relay, answer_of, cluster, command, fill_all_workers, members  # noqa: F401
