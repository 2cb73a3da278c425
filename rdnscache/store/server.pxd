cimport cython

from rdnscache.metrics cimport observe
from rdnscache.store.breaker cimport Breaker
from rdnscache.store.link cimport Link
from rdnscache.store.servers cimport Servers


cdef class RedisServer(Servers):
    cdef public object label
    cdef public Breaker breaker
    cdef public Link link
    cdef object _upstream_seconds
    cdef object _events
    cdef object _probe_key
    cdef object _prober

    @cython.locals(now=double, took=double, upstream=double)
    cpdef object ask(self, object late, tuple commands)
    cpdef object send(self, object command, object done=*)
