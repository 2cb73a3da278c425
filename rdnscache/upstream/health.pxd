cdef class Health:
    cdef public long failures
    cdef public double rests_until
    cdef public double pause
    cdef public bint probing
    cdef public double alive_at
    cdef public double changed_at

    cpdef bint due(self, double now)
    cpdef bint answered(self, double now)
    cpdef object postpone(self, double now)
    cpdef bint failed(self, double sent, double now)
