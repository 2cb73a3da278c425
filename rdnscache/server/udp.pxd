cimport cython

from rdnscache cimport clock
from rdnscache.clients.limit cimport Limiter
from rdnscache.clients.networks cimport Networks
from rdnscache.clients.proxy cimport Proxied, parse_proxy, tls_name
from rdnscache.dns.entry cimport Entry
from rdnscache.dns.wire cimport Query, parse_query
from rdnscache.query_log cimport QueryLog
from rdnscache.metrics cimport count_reply, observe
from rdnscache.server.batch cimport Batch
from rdnscache.server.answering cimport Answering

cdef int _REPLIES


cdef class UdpListener:
    cdef object _sock
    cdef Answering _answering
    cdef Batch _batch
    cdef object _loop
    cdef object _watcher
    cdef bint _sending
    cdef bint _reading
    cdef bint _held
    cdef int _dropped
    cdef Networks _allowed
    cdef Limiter _limiter
    cdef Networks _proxies
    cdef object _routes
    cdef object _tls_names

    @cython.locals(
        batch=Batch, answering=Answering, now=double, count=int, hits=int, plain=int, index=int, watched=int,
        query=Query, seen=Query,
        reply=bytes, key=bytes, query_log=QueryLog
    )
    cpdef object drain(self)
    @cython.locals(
        batch=Batch, answering=Answering, data=bytes, source=bytes, asked=bytes, named=bytes, stream=bint,
        proxied=Proxied, query=Query,
        verdict=int,
        reply=bytes
    )
    cdef Query _admit(self, int index, double now, bint watched)
    @cython.locals(answering=Answering, reply=bytes)
    cpdef object answer(self, Query query, object client, Entry entry, int layer)
