"""rdnscache: a clustered DNS cache whose nodes share one Redis."""

import os

__version__ = "0.1.0"

if os.environ.get("RDNSCACHE_PURE", "0") not in ("", "0"):
    from rdnscache.build import prefer_source

    prefer_source()
