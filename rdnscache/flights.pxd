cimport cython

from rdnscache.dns.entry cimport Entry
from rdnscache.dns.wire cimport Query


cdef class Flight:
    cdef public bytes key
    cdef public double since
    cdef public bint recursion
    cdef public int renewal
    cdef public Entry stale
    cdef public object timer
    cdef public bint flushed
    cdef public bint up
    cdef public list waiters


cdef class Flights:
    cdef object _resolve
    cdef object _give_up
    cdef int _max_greenlets
    cdef int _max_waiting
    cdef dict _up
    cdef int _count
    cdef object _queue
    cdef list _idle
    cdef list _crew
    cdef object _hub
    cdef public int waiting
    cdef public object on_join
    cdef public list drains
    cdef double _looked

    @cython.locals(flight=Flight)
    cpdef bint join(self, object channel, Query query, object client) except -1
    @cython.locals(flight=Flight)
    cpdef bint renew(self, bytes key, int left) except -1
    cpdef bint has(self, Flight flight) except -1
    cpdef object set_aside(self, Flight flight)
    cpdef object _start(self, Flight flight)
    @cython.locals(flight=Flight)
    cpdef object _fly(self)
    @cython.locals(query=Query)
    cpdef object land(self, Flight flight, Entry entry, int layer)
    @cython.locals(now=double)
    cpdef object step(self)
