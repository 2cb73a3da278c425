cimport cython

from rdnscache.store.packing cimport pack
from rdnscache.store.resp cimport Reader


cdef class Call:
    cdef public object done
    cdef public int left
    cdef public object late
    cdef public list replies
    cdef public double at


# Methods that Link hands to others as callbacks are not declared: of a cpdef method that is inherited from another
# module, Cython 3.3 makes a function that does not fit.
cdef class Pipe:
    cdef public long commands
    cdef object _hub
    cdef public object _stream
    cdef Reader _reader
    cdef bint _paused
    cdef object _next_turn
    cdef list _unsent
    cdef Py_ssize_t _octets
    cdef public object _pending
    cdef object _asked
    cdef list _fresh
    cdef double _heard

    @cython.locals(waiting=Py_ssize_t)
    cdef bint _is_full(self)
    @cython.locals(call=Call, packed=bytes)
    cpdef Call _enqueue(self, object commands, object done, double moment)
    @cython.locals(reader=Reader, begun=double)
    cpdef object _hand_out(self)
    cpdef object _pause(self, bint paused)
    @cython.locals(call=Call)
    cpdef object _deliver(self, object reply)
    cpdef object learn(self, double seconds)
