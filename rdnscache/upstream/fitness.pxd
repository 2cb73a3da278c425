cdef class Fitness:
    cdef str _whose
    cdef long _failures
    cdef double _failing_since
    cdef bint _unfit
    cdef readonly bint stands_back

    cpdef object tried_all(self, double asked, double now)
    cpdef object failed(self, object failure, double now)
    cpdef object answered(self)
