cimport cython

from rdnscache.upstream.connection cimport Connection
from rdnscache.upstream.query cimport Query


cdef class Pool:
    cdef public list connections
    cdef readonly long openings
    cdef str _name
    cdef object _open_connection
    cdef object _limits
    cdef long _crowded
    cdef dict _waiting
    cdef dict _lost
    cdef bint _closed
    cdef object _loop
    cdef object _looker
    cdef double _not_before
    cdef object _failure
    cdef double _pause
    cdef long _barren
    cdef long _quota
    cdef long _suspected
    cdef double _quota_until

    @cython.locals(now=double, connection=Connection)
    cpdef object send(self, Query query)
    cpdef object send_again(self, Query query)
    cpdef object cancel(self, Query query)
    cpdef object close(self)
    cpdef object opened(self, Connection connection)
    cpdef object freed(self, Connection connection)
    cpdef object ended(self, Connection connection, object failure, object left)
    cpdef object undone(self, Query query, object failure)
    cdef object _learn(self, Connection connection, object left, double now)
    cdef object _blame(self, Connection connection, object failure, double now)
    @cython.locals(best=Connection, connection=Connection, least=long, load=long)
    cdef Connection _best(self)
    @cython.locals(waiting=dict, connection=Connection, query=Query)
    cdef object _send_waiting(self, double now)
    cdef object _grow_for_waiting(self, double now)
    @cython.locals(connection=Connection)
    cdef object _grow(self, double now, long wanted)
    cdef object _drop(self, Connection connection)
    cdef object _look_after(self)
    cpdef object _look(self)
    cdef object _stop_looking(self)
    cdef object _lose_waiting(self, object failure)
    cdef object _lose(self, Query query, object failure)
    cpdef object _tell(self)
