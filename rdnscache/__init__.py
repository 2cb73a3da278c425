"""rdnscache: a clustered DNS cache whose nodes share one Redis."""

import os

from rdnscache.forms import is_compiled, prefer_source

__version__ = "0.1.0"

if os.environ.get("RDNSCACHE_PURE", "0") not in ("", "0") or not is_compiled():
    prefer_source()
