from rdnscache.dns.entry cimport Entry
from rdnscache.dns.wire cimport Reply


cdef class Claim:
    cdef public bytes key
    cdef public object flight
    cdef public object on_late
    cdef public Entry entry
    cdef public double lease_left
    cdef public bint woken

    cpdef Entry read(self, bint last=*)
    cpdef object acquire(self, int renewal=*)
    cpdef Entry wait(self, double seconds)
    cpdef object fill(self, bytes kind, Reply reply, long ttl, long stale, str source, str route, str why=*)
    cpdef object release(self)
    cpdef object break_off(self)
    cpdef object end(self)


cdef class NullStore:
    pass
