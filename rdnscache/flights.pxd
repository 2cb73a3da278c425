cimport cython

from rdnscache cimport clock
from rdnscache.clients.networks cimport client_prefix
from rdnscache.crew cimport Crew, Task
from rdnscache.dns.entry cimport Entry
from rdnscache.dns.wire cimport Query


cdef class Flight(Task):
    cdef public object route
    cdef public bint recursion
    cdef public int renewal
    cdef public Entry stale
    cdef public object timer
    cdef public bint flushed
    cdef public long asked
    cdef public bytes needs
    cdef public int links
    cdef public double until
    cdef public list waiters
    cdef public set seen


cdef class Flights:
    cdef object _pilot
    cdef int _max_flights
    cdef int _max_waiting
    cdef int _max_client_waiting
    cdef dict _up
    cdef int _count
    cdef Crew _crew
    cdef object _hub
    cdef public int waiting
    cdef dict _waiting_of
    cdef int _delivering
    cdef bint _quiet
    cdef public list drains
    cdef double _looked

    @cython.locals(flight=Flight, prefix=bytes, key=bytes, waits=int)
    cpdef int join(self, object channel, Query query, object client, double now) except -1
    @cython.locals(flight=Flight)
    cpdef int _fly_here(self, object channel, Query query, double now) except -1
    @cython.locals(flight=Flight)
    cpdef bint renew(self, bytes key, int left) except -1
    @cython.locals(flight=Flight)
    cdef Flight _begin(self, bytes key, bytes prefix, double now)
    cdef bint _make_client_wait_less(self, bytes prefix, bytes key, double now) except -1
    cdef bint _make_all_wait_less(self, double now) except -1
    cpdef object _make_way(self, Flight flight, int reason)
    @cython.locals(other=Flight)
    cpdef bint leads_back(self, bytes key, Flight flight) except -1
    cpdef bint has(self, Flight flight) except -1
    cpdef object set_aside(self, Flight flight)
    cpdef object answer(self, Flight flight, Entry entry, int layer)
    cpdef object land(self, Flight flight, Entry entry, int layer)
    @cython.locals(waiters=list, prefix=bytes, left=int)
    cdef object _answer_all(self, Flight flight, Entry entry, int layer, int others)
    @cython.locals(stop=int, index=int, query=Query)
    cpdef object _deliver(self, list waiters, int start, Entry entry, int layer, int others)
    cpdef object _fly(self, Flight flight)
    @cython.locals(now=double)
    cpdef object step(self)

cdef bint _repeats(Flight flight, tuple asker) except -1
