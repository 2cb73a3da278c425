cimport cython

from rdnscache cimport clock
from rdnscache.cache cimport Cache
from rdnscache.dns.entry cimport Entry
from rdnscache.dns.policy cimport answers, holds_widely, settle
from rdnscache.dns.question cimport subnet, wider_key
from rdnscache.dns.wire cimport Reply
from rdnscache.flights cimport Flight, Flights
from rdnscache.metrics cimport observe
from rdnscache.store.interface cimport Claim
from rdnscache.upstream.routes cimport Route


cdef int _L2, _FOLLOWER, _UPSTREAM
cdef double _MEMORY, _SLOW
cdef tuple _SECONDS_OF


cdef class Resolver:
    cdef public Cache cache
    cdef object _store
    cdef object _routes
    cdef object _only_route
    cdef object _siblings
    cdef object _aliases
    cdef double _misled_until
    cdef double _stale_after
    cdef str _node
    cdef object _query_log
    cdef object _decider
    cdef object _on_late
    cdef object _on_trouble
    cdef object _counters
    cdef public long flushes
    cdef public double flushed_at
    cdef double _l2_share
    cdef object _crowd
    cdef dict _origins
    cdef public Flights flights

    @cython.locals(entry=Entry, key=bytes, layer=int, reply=Reply, route=Route, claim=Claim)
    cpdef object fly(self, Flight flight)
    @cython.locals(reply=Reply, route=Route)
    cpdef tuple _ask(self, Flight flight, Claim claim)
    cdef object _offer(self, Flight flight, Entry stale)
    cpdef object joined(self, Flight flight)
    cdef object _answer_stale_at(self, Flight flight, double moment)
    @cython.locals(stale=Entry, now=double)
    cpdef object _answer_stale(self, Flight flight)
    @cython.locals(kept=Entry)
    cdef object _hold(self, Entry stale, double now)
    cpdef object _late(self, Flight flight, Entry entry)
    cpdef object _give_back(self, Claim claim, double asked)
    @cython.locals(entry=Entry)
    cdef tuple _stand_back(self, Claim claim, bint followed)
    @cython.locals(
        entry=Entry, look=double, left=double, give_up=double, begun=double, followed=bint, route=Route
    )
    cpdef tuple _claim_or_follow(self, Flight flight, Claim claim)
    @cython.locals(stale=int, ttl=int, key=bytes, entry=Entry, route=Route, wide=bint)
    cpdef object _land_and_fill(self, Flight flight, Claim claim, Reply reply, str source)
    cdef str _origin(self, str source, Route route)
    cpdef object _land_around(self, Flight flight, Claim claim, Entry entry, int layer, tuple told)
    @cython.locals(reply=Reply)
    cdef object _fill(self, Flight flight, Claim claim, tuple told)
    cpdef bint _lacks(self, Entry entry) except -1
    cdef bint _outdated(self, Flight flight)
    @cython.locals(now=double, failed=bint)
    cpdef object _land(self, Flight flight, Entry entry, int layer)
    @cython.locals(seconds=double)
    cdef object _count(self, Flight flight, Entry entry, int layer, double seconds)
