cimport cython

from rdnscache.metrics cimport observe


cdef class Server:
    cdef readonly object endpoint
    cdef readonly object address
    cdef readonly object udp
    cdef readonly object tcp
    cdef public double latency
    cdef public long waiting
    cdef double _quiet_since
    cdef double _quickest
    cdef long _replies
    cdef double _least
    cdef double _least_before
    cdef double _period
    cdef int _block
    cdef object _counters
    cdef object _log
    cdef object _log_tcp

    cpdef int rank(self, double now)
    cpdef object asked(self, double now)
    cpdef object useless(self)
    cpdef object answered(self, double seconds)
    @cython.locals(quickest=double)
    cpdef double delay(self, double now) except? -2
    cpdef object heard(self, double now)
    cpdef object failed(self, double sent, double now, object failure, bint alone)
    cpdef object heard_over_tcp(self, double now)
    cpdef object failed_over_tcp(self, double sent, double now, object failure)
