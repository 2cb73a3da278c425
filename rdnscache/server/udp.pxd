cimport cython

from rdnscache.dns.entry cimport Entry
from rdnscache.dns.wire cimport Query, parse_query
from rdnscache.server.batch cimport Batch
from rdnscache.server.desk cimport Desk


cdef class UdpListener:
    cdef object _sock
    cdef Desk _desk
    cdef Batch _batch
    cdef object _loop
    cdef object _watcher
    cdef bint _flushing
    cdef bint _reading
    cdef bint _held

    @cython.locals(
        batch=Batch, desk=Desk, now=double, count=int, hits=int, dropped=int, plain=int, index=int, watched=int,
        query=Query, reply=bytes, key=bytes, rcode=int
    )
    cpdef object drain(self)
    @cython.locals(desk=Desk, reply=bytes)
    cpdef object answer(self, Query query, object client, Entry entry, int layer)
