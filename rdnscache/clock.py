"""The clock by which entries age. It includes time in which the machine was suspended, since TTLs run on as well.

clock.pyx is its twin in C.
"""

from __future__ import annotations

import time
from functools import partial

#: Seconds since some moment, never set back. Timers use `time.monotonic`; the two must not be compared.
now = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
