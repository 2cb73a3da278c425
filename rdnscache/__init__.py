"""rdnscache: a clustered DNS cache whose nodes share one Redis."""

import os

__version__ = "0.1.0"

if os.environ.get("RDNSCACHE_PURE"):
    from rdnscache.build import prefer_source

    prefer_source()
