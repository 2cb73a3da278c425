cimport cython

from rdnscache cimport clock
from rdnscache.cache cimport Cache
from rdnscache.dns.compose cimport compose
from rdnscache.dns.entry cimport Entry
from rdnscache.dns.policy cimport answer_ourselves
from rdnscache.dns.question cimport view_number, with_view
from rdnscache.dns.wire cimport Query
from rdnscache.flights cimport Flights
from rdnscache.query_log cimport QueryLog
from rdnscache.tally cimport count


cdef int _ANSWERS, _LOCAL, _JOINED, _CH


cdef class Answering:
    cdef public Cache cache
    cdef public object counters
    cdef Flights _flights
    cdef object _identity
    cdef public QueryLog query_log
    cdef str _worker_name
    cdef bint _renews
    cdef object _departure
    cdef public bint rotates
    cdef public bint enforces
    cdef public object notified
    cdef public object by_client
    cdef public object subnets
    cdef public bytes marks
    cdef public object views

    @cython.locals(entry=Entry, reply=bytes)
    cpdef bytes lookup(self, Query query, double now)
    cdef bytes _enforce(self, Query query, Entry entry, double now)
    @cython.locals(left=int)
    cdef object _renew(self, Entry entry, bytes key)
    @cython.locals(layer=int, reply=bytes, entry=Entry, mine=Entry, outcome=int)
    cpdef bytes take(self, object channel, Query query, object client, double now)
    @cython.locals(now=double, reply=bytes)
    cpdef bytes finish(self, Query query, Entry entry, int layer)
