"""The clocks of entries and of waits; see clock.py."""

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, clockid_t, timespec

cdef extern from "<time.h>" nogil:
    clockid_t CLOCK_BOOTTIME


cpdef double now() except -1:
    return _told_by(CLOCK_BOOTTIME)


cpdef double monotonic() except -1:
    return _told_by(CLOCK_MONOTONIC)


cdef double _told_by(clockid_t clock) except -1:
    cdef timespec moment
    if clock_gettime(clock, &moment) != 0:
        raise OSError("no clock")
    return <double> moment.tv_sec + 1e-9 * <double> moment.tv_nsec
