cimport cython

from rdnscache.dns.wire cimport Reply
from rdnscache.upstream.attempt cimport Attempt
from rdnscache.upstream.choice cimport patience
from rdnscache.upstream.search cimport Search
from rdnscache.upstream.server cimport Server


cdef double _JITTER

cpdef double jitter()


cdef class Asking:
    cdef readonly list servers
    cdef double _timeout
    cdef object _counters
    cdef bint _alone
    cdef object _aside
    cdef object _local

    @cython.locals(attempt=Attempt)
    cpdef object _send(self, Search search, Server server, double now, bint last)
    cpdef object _spend(self, Search search, Server server, double now, object run, object fail)
    cpdef object _not_sent(self, Search search, Server server, double now)
    @cython.locals(attempt=Attempt)
    cpdef object _ask(self, Search search, Server server, bint last, double now)
    cpdef double _wait(self, Search search, Server server) except? -2
    @cython.locals(seconds=double)
    cpdef double _patient(self, Server server) except? -2
    cpdef double _due(self, double now)
    cpdef object _overdue(self, Attempt attempt)
    cpdef object _failed(self, Search search, Server server, object failure, double now)
    @cython.locals(attempt=Attempt, renewed=bint, over_udp=bint, tried=bint)
    cpdef bint _otherwise(self, Search search, Attempt before, Reply reply, double now) except -1
    cpdef object _ask_otherwise(self, Search search, Attempt attempt, double now)
    @cython.locals(server=Server)
    cpdef object _turn_to_tcp(self, Search search, Attempt attempt, double now)
    cpdef object _no_tcp(self, Search search, Attempt attempt, double now)
    @cython.locals(server=Server, wait=double)
    cpdef object _ask_over_tcp(self, Search search, Attempt attempt, double now)
    cpdef object _leave(self, Attempt attempt, bint answered)
    cpdef object _own_fault(self, object failure, double now)
