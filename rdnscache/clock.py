"""The clock by which entries age, and the one for waits. clock.pyx is the twin that makes no objects of moments."""

from __future__ import annotations

import time
from functools import partial

#: Seconds since some moment, never set back. It includes time in which the machine was suspended, since TTLs run on.
now = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
#: The same without that time, as timers have it. Moments of the two must not be compared.
monotonic = time.monotonic
