"""The clock by which entries age: it goes on while the machine is suspended, as TTLs do."""

from __future__ import annotations

import time
from functools import partial

#: Seconds since some moment, never set back. Timers and waits go by `time.monotonic`; the two are not compared.
now = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
