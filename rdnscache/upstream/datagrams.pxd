cimport cython

from rdnscache cimport clock
from rdnscache.upstream.packets cimport receive, send
from rdnscache.upstream.query cimport Query

cdef int _KIND, _MOST_STRAYS, _USES, _KEPT, _STOCK
cdef double _LIFE


cdef class Spare:
    cdef int count


cdef Spare _SPARE


cdef class Port:
    cdef readonly object sock
    cdef readonly int fd
    cdef double until
    cdef object watcher
    cdef int uses
    cdef Query query
    cdef int ident
    cdef bytes data
    cdef bint again
    cdef int strays

    cpdef object close(self)


cdef class Datagrams:
    cdef object _address
    cdef int _family
    cdef object _sockaddr
    cdef bytes _idents
    cdef Py_ssize_t _taken
    cdef list _free
    cdef object _sweeper

    @cython.locals(ident=bytes, data=bytes, port=Port)
    cpdef object send(self, Query query)
    cdef Port _latest(self)
    @cython.locals(at=Py_ssize_t)
    cdef bytes _ident(self)
    cdef Port _opened(self)
    @cython.locals(port=Port)
    cpdef object send_again(self, Query query)
    cpdef object look(self, Query query)
    @cython.locals(port=Port)
    cpdef object cancel(self, Query query)
    @cython.locals(query=Query, data=bytes)
    cpdef object _read(self, Port port)
    @cython.locals(worn=bint)
    cdef object _free_or_close(self, Port port, bint odd)
    @cython.locals(port=Port, now=double)
    cpdef object _sweep(self)
    cpdef object _fail(self, Query query, object error)
