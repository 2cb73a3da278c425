cdef class Health:
    cdef double[:] _numbers

    cpdef bint due(self, double now)
    cpdef object probe(self, double until)
    cpdef object checked(self, double now)
    cpdef object probed(self)
    cpdef bint answered(self, double now)
    cpdef object postpone(self, double now)
    cpdef bint failed(self, double sent, double now)
    cpdef object _rest(self, double seconds, double now)
