cimport cython

from rdnscache.dns.wire cimport Reply
from rdnscache.dns.distill cimport distill
from rdnscache.dns.policy cimport usable
from rdnscache.upstream.alarms cimport Alarms
from rdnscache.upstream.attempt cimport Attempt
from rdnscache.upstream.choice cimport patience
from rdnscache.upstream.search cimport Search
from rdnscache.upstream.server cimport Server


cdef double _JITTER

cdef double _jitter()


cdef class Upstreams:
    cdef readonly list servers
    cdef double _timeout
    cdef double _deadline
    cdef object _counters
    cdef object _choice
    cdef bint _alone
    cdef readonly bint budgeted
    cdef object _aside
    cdef Alarms _alarms
    cdef object _local

    cpdef list _in_order(self, bytes key, double now)
    @cython.locals(now=double, search=Search, attempt=Attempt, reply=Reply)
    cpdef tuple ask(self, bytes key, object on_trouble=*, object thrift=*)
    @cython.locals(attempt=Attempt)
    cpdef object _send_probe(self, Server server, bytes key, double now)
    cpdef object _probe(self, Server server, bytes key, double now)
    @cython.locals(at_once=int, server=Server)
    cpdef object _go_on(self, Search search, double now)
    @cython.locals(remaining=double, pause=double)
    cpdef object _next_round(self, Search search, double now)
    @cython.locals(attempt=Attempt)
    cpdef object _send(self, Search search, Server server, double now, bint last)
    cpdef object _spend(self, Search search, Server server, double now, object run, object fail)
    cpdef object _not_sent(self, Search search, Server server, double now)
    @cython.locals(attempt=Attempt)
    cpdef object _ask(self, Search search, Server server, bint last, double now)
    @cython.locals(last=Attempt)
    cpdef bint _may_go_on(self, Search search, double now) except -1
    cpdef double _wait(self, Search search, Server server) except? -2
    @cython.locals(seconds=double)
    cpdef double _patient(self, Server server) except? -2
    cpdef double _due(self, double now)
    cpdef object _overdue(self, Attempt attempt)
    @cython.locals(attempt=Attempt)
    cpdef object _note_silence(self, Search search, double now)
    @cython.locals(reply=Reply, server=Server, answer=Reply)
    cpdef Reply _hear(self, Search search, Attempt attempt, double now)
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
