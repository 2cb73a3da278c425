cimport cython

from rdnscache.dns.wire cimport Reply
from rdnscache.upstream.exchange cimport over_tcp, over_udp
from rdnscache.upstream.search cimport Search
from rdnscache.upstream.server cimport Server


cdef class Upstreams:
    cdef readonly list servers
    cdef double _timeout
    cdef double _deadline
    cdef object _counters
    cdef long _turn
    cdef object _local

    @cython.locals(now=double, search=Search, server=Server, reply=Reply, pause=double, remaining=double, waited=long)
    cpdef tuple ask(self, bytes key, object on_trouble=*)
    cpdef object _sleep(self, Search search, double seconds)
    @cython.locals(started=double, remaining=double, now=double, final=bint, reply=Reply, answer=Reply)
    cpdef Reply _try(self, Server server, Search search, int rounds, bint last)
    @cython.locals(reply=Reply)
    cpdef Reply _exchange(self, Server server, Search search, bint insist)
    @cython.locals(started=double, now=double, reply=Reply)
    cpdef Reply _over_udp(self, Server server, Search search, bint edns)
    @cython.locals(started=double, now=double, reply=Reply)
    cpdef Reply _over_tcp(self, Server server, Search search, bint edns, bint insist)
