cimport cython

from rdnscache.upstream.query cimport Query


cdef class Connection:
    cdef public bint open
    cdef readonly bint was_open
    cdef readonly bint closed
    cdef public bint ended_by_server
    cdef public bint retiring
    cdef public double idle
    cdef readonly long sent
    cdef public long answers
    cdef public bint doubtful
    cdef readonly dict outstanding
    cdef readonly long cancelled
    cdef readonly double since
    cdef readonly double heard
    cdef readonly str _name
    cdef object _owner
    cdef readonly object _limits
    cdef readonly long _most
    cdef readonly list _unsent
    cdef readonly bint _paused
    cdef readonly object _loop
    cdef object _next_turn
    cdef object _timer
    cdef readonly object _channel

    cpdef long room(self) except? -1
    cpdef object send(self, Query query)
    cpdef object _take(self, Query query, long long number)
    cpdef object _put(self, bytes data)
    cpdef object _flush(self)
    cpdef object cancel(self, Query query)
    @cython.locals(query=Query)
    cpdef bint _answered(self, long long number, bytes data) except -1
    @cython.locals(query=Query)
    cpdef Query _forget(self, long long number)
    cpdef Query _dropped(self, long long number)
    cpdef object _fail(self, long long number, str why)
    cpdef object _give_back(self, long long number, object failure)
    cpdef object _received(self, object data)
    cpdef object _is_alive(self)
    cpdef object _hand_out(self)
    cpdef object _pause(self)
    cpdef object _go_on(self)
    cpdef object _handed_out(self)
    cpdef object _channel_open(self)
    cpdef object _not_in_time(self)
    cpdef object look(self, double now)
    cpdef object _end(self, object failure)
    cpdef list close(self)
    @cython.locals(query=Query)
    cpdef list _leave(self)


cpdef object answer(Query query, bytes data)
cpdef object give_up(Query query, object failure)
