cimport cython

cdef int _RTT, _VARIATION, _LOSS, _FACTOR, _LOST_AT
cdef double _GAIN, _VARIATION_GAIN, _LOSS_GAIN, _LESS_PATIENCE


cdef class Estimate:
    cdef double[:] _numbers
    cdef double _floor
    cdef double _ceiling

    @cython.locals(rtt=double, off=double)
    cpdef object measured(self, double seconds)
    cpdef object arrived(self)
    cpdef object lost(self, double now)
    cpdef bint loses(self, double now)
    cpdef object hasty(self)
    @cython.locals(usual=double)
    cpdef double patience(self) except? -2
    @cython.locals(loss=double)
    cpdef double cost(self) except? -2
