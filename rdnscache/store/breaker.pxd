cdef double _FAILURE, _SUCCESS, _BOUND, _TOGETHER
cdef int _EVERY


cdef class Breaker:
    cdef public str state
    cdef public bint closed
    cdef public object reason
    cdef public long opened
    cdef public double pause
    cdef double _score
    cdef object _latencies
    cdef int _since_look
    cdef double _closed_at
    cdef double _failed_at
    cdef double _sampled_at

    cpdef bint succeeded(self, double seconds, double now) except -1
    cpdef bint failed(self, object reason, double now) except -1
