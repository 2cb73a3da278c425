"""All that rdnscache asks of Redis. Redis may vanish at any time; callers go on without it."""
