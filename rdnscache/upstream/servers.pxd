cimport cython

from rdnscache cimport clock
from rdnscache.dns.wire cimport Reply
from rdnscache.dns.distill cimport distill
from rdnscache.dns.policy cimport usable
from rdnscache.upstream.alarms cimport Alarms
from rdnscache.upstream.asking cimport Asking, jitter
from rdnscache.upstream.attempt cimport Attempt
from rdnscache.upstream.search cimport Search
from rdnscache.upstream.server cimport Server


cdef class Upstreams(Asking):
    cdef readonly double deadline
    cdef object _choice
    cdef readonly bint budgeted
    cdef Alarms _alarms

    cpdef list _in_order(self, bytes key, double now)
    @cython.locals(now=double, search=Search, attempt=Attempt, reply=Reply)
    cpdef tuple ask(self, bytes key, object on_trouble=*, object thrift=*, object context=*)
    @cython.locals(attempt=Attempt)
    cpdef object _send_probe(self, Server server, bytes key, double now)
    cpdef object _probe(self, Server server, bytes key, double now)
    @cython.locals(at_once=int, server=Server)
    cpdef object _go_on(self, Search search, double now)
    @cython.locals(remaining=double, pause=double)
    cpdef object _next_round(self, Search search, double now)
    @cython.locals(last=Attempt)
    cpdef bint _go_on_or_put_off(self, Search search, double now) except -1
    @cython.locals(attempt=Attempt)
    cpdef object _note_silence(self, Search search, double now)
    @cython.locals(reply=Reply, server=Server, answer=Reply)
    cpdef Reply _hear(self, Search search, Attempt attempt, double now)
