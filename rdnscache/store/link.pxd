cimport cython

from rdnscache.store.resp cimport Reader


cdef class _Call:
    cdef public object done
    cdef public int left
    cdef public object late
    cdef public list replies
    cdef public double at


cdef class Link:
    cdef public bint attached
    cdef public long commands
    cdef public long detachments
    cdef public double latency
    cdef public double budget
    cdef public double patience
    cdef public double lag
    cdef public double least_patience
    cdef double _longest
    cdef object _asked
    cdef list _fresh
    cdef double _due
    cdef object _ticker
    cdef double _heard
    cdef object _opener
    cdef object _client_name
    cdef tuple _channels
    cdef double _timeout
    cdef object _on_push
    cdef object _on_open
    cdef object _on_attach
    cdef object _on_detach
    cdef object _hub
    cdef public object _stream
    cdef Reader _reader
    cdef bint _paused
    cdef object _next_turn
    cdef list _unsent
    cdef Py_ssize_t _octets
    cdef public object _pending
    cdef int _subscribed
    cdef object _reason
    cdef object _ready
    cdef object _ended
    cdef object _hurry
    cdef object _greenlet

    @cython.locals(call=_Call)
    cpdef list _request(self, object commands)
    cpdef object learn(self, double seconds)
    @cython.locals(call=_Call)
    cpdef object ask(self, object late, tuple commands)
    @cython.locals(call=_Call, over=double, now=double)
    cpdef object _tick(self)
    @cython.locals(call=_Call)
    cpdef _Call _enqueue(self, object commands, object done)
    cpdef object _flush(self)
    cpdef object _received(self, bytes data)
    @cython.locals(reader=Reader, begun=double, count=int)
    cpdef object _hand_out(self)
    @cython.locals(waiting=Py_ssize_t)
    cdef bint _is_full(self)
    @cython.locals(call=_Call)
    cpdef object _deliver(self, object reply)
    cpdef object _finish(self, _Call call, object result)
