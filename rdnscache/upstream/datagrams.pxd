cimport cython

from rdnscache.upstream.query cimport Query


cdef class Port:
    cdef readonly object sock
    cdef readonly bytes ident
    cdef public bytes data
    cdef readonly object watcher
    cdef public int strays

    cpdef object close(self)


cdef class Datagrams:
    cdef object _address

    @cython.locals(ident=bytes, data=bytes)
    cpdef object send(self, Query query)
    @cython.locals(port=Port)
    cpdef object send_again(self, Query query)
    cpdef object look(self, Query query)
    @cython.locals(port=Port)
    cpdef object cancel(self, Query query)
    @cython.locals(port=Port, data=bytes)
    cpdef object _read(self, Query query)
    cpdef object _fail(self, Query query, object error)
