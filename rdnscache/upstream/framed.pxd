cimport cython

from rdnscache.upstream.connection cimport Connection
from rdnscache.upstream.framing cimport Frames, framed
from rdnscache.upstream.query cimport Query


cdef class FramedConnection(Connection):
    cdef int _block
    cdef Frames _frames
    cdef int _strays
    cdef long _told
    cdef bytes _idents
    cdef Py_ssize_t _taken

    @cython.locals(number=long, options=bytes, message=bytes)
    cpdef object send(self, Query query)
    @cython.locals(at=Py_ssize_t, number=long)
    cdef long _number(self) except -1
    cpdef object _received(self, object data)
    @cython.locals(begun=double, message=bytes)
    cpdef object _hand_out(self)
    @cython.locals(number=long)
    cpdef object _take_message(self, bytes message)
    cpdef object _heed(self, bytes message)
