cimport cython

cdef int _FAILURES, _RESTS_UNTIL, _PAUSE, _PROBED_UNTIL, _ALIVE_AT, _CHANGED_AT, _CHECKED_AT


cdef class Health:
    cdef double[:] _numbers

    cpdef bint due(self, double now) except -1
    cpdef object probe(self, double until)
    cpdef object checked(self, double now)
    cpdef object probed(self)
    cpdef bint answered(self, double now) except -1
    cpdef object postpone(self, double now)
    @cython.locals(again=bint)
    cpdef bint failed(self, double sent, double now) except -1
    cdef object _rest(self, double seconds, double now)
