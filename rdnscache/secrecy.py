"""Whether a configuration contains secrets."""

from __future__ import annotations

from rdnscache.config import Config
from rdnscache.lists.sources import all_transfers
from rdnscache.redis_url import parse


def has_secrets(config: Config) -> bool:
    """Whether there is a secret, a key, a token, or a password for Redis."""
    tokens = config.admin_token or config.admin_read_token
    if config.secret or tokens or any(each.key for each in all_transfers(config).values()):
        return True
    if config.redis in ("embedded", "none"):
        return False
    found = parse(config.redis)
    return found.login.given or found.sentinel_login.given
