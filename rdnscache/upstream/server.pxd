from rdnscache.metrics cimport observe
from rdnscache.upstream.health cimport Health


cdef class Server:
    cdef readonly object address
    cdef readonly Health udp
    cdef readonly Health tcp
    cdef public double latency
    cdef public long waiting
    cdef double _quiet_since
    cdef int _block
    cdef object _counters
    cdef object _log
    cdef object _log_tcp

    cpdef int rank(self, double now)
    cpdef object asked(self, double now)
    cpdef object useless(self)
    cpdef object answered(self, double seconds)
    cpdef object heard(self, double now)
    cpdef object failed(self, double sent, double now, object failure, bint alone)
    cpdef object heard_over_tcp(self, double now)
    cpdef object failed_over_tcp(self, double sent, double now, object failure)
