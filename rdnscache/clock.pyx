"""The clock by which entries age; see clock.py."""

from posix.time cimport clock_gettime, timespec

cdef extern from "<time.h>" nogil:
    int CLOCK_BOOTTIME


def now():
    cdef timespec moment
    if clock_gettime(CLOCK_BOOTTIME, &moment) != 0:
        raise OSError("no clock")
    return <double> moment.tv_sec + 1e-9 * <double> moment.tv_nsec
