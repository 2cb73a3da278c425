cimport cython

from rdnscache.store.pipe cimport Call, Pipe


cdef class Link(Pipe):
    cdef public bint attached
    cdef public long detachments
    cdef public double latency
    cdef public double budget
    cdef public double patience
    cdef public double lag
    cdef public double took
    cdef public double least_patience
    cdef double _longest
    cdef double _due
    cdef object _ticker
    cdef object _opener
    cdef object _client_name
    cdef tuple _channels
    cdef double _timeout
    cdef object _events
    cdef int _subscribed
    cdef object _reason
    cdef object _ready
    cdef object _ended
    cdef object _hurry
    cdef object _greenlet

    @cython.locals(call=Call)
    cpdef list _request(self, object commands)
    cpdef object learn(self, double seconds)
    @cython.locals(call=Call, started=double)
    cpdef object ask(self, object late, tuple commands)
    @cython.locals(call=Call, over=double, now=double)
    cpdef object _tick(self)
    cpdef object send(self, object command, object done=*)
