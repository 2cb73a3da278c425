cimport cython

from rdnscache.cache cimport Cache
from rdnscache.dns.entry cimport Entry
from rdnscache.dns.wire cimport Reply
from rdnscache.flights cimport Flight, Flights
from rdnscache.metrics cimport observe


cdef class Resolver:
    cdef public Cache cache
    cdef object _store
    cdef object _upstreams
    cdef object _siblings
    cdef object _limits
    cdef double _patience
    cdef double _stale_after
    cdef str _node
    cdef object _journal
    cdef object _counters
    cdef public long flushes
    cdef double _l2_share
    cdef public Flights flights

    @cython.locals(entry=Entry, stale=Entry, key=bytes, flushes=long, layer=int, reply=Reply)
    cpdef object fly(self, Flight flight)
    @cython.locals(reply=Reply)
    cpdef tuple _ask(self, bytes key, bint claimed)
    @cython.locals(entry=Entry, look=double, left=double, give_up=double)
    cpdef tuple _claim_or_follow(self, Flight flight, object candidacy)
    @cython.locals(now=double)
    cdef object _offer(self, Flight flight, Entry stale)
    @cython.locals(now=double)
    cpdef object _answer_stale(self, Flight flight, Entry stale)
    cpdef object _late(self, Flight flight, long flushes, Entry entry)
    @cython.locals(stale=int, ttl=int)
    cpdef object _land_and_fill(self, Flight flight, object candidacy, Reply reply, object source, long flushes)
    @cython.locals(now=double)
    cpdef object _land(self, Flight flight, Entry entry, int layer, long flushes, Entry stale=*)
    @cython.locals(seconds=double)
    cdef object _count(self, Flight flight, Entry entry, int layer, double seconds)
