cimport cython

from rdnscache.cache cimport Cache
from rdnscache.dns.compose cimport compose
from rdnscache.dns.entry cimport Entry
from rdnscache.dns.wire cimport Query


cdef class Desk:
    cdef public Cache cache
    cdef public object counters
    cdef object _flights
    cdef object _identity

    @cython.locals(entry=Entry)
    cpdef bytes lookup(self, Query query, double now)
    cpdef bytes take(self, object channel, Query query, object client)
