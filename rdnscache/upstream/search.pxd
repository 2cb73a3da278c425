from rdnscache.dns.wire cimport Reply
from rdnscache.upstream.server cimport Server


cdef class Search:
    cdef readonly bytes key
    cdef readonly double started
    cdef public double deadline
    cdef bint _forgiven
    cdef readonly long waited
    cdef int _ede
    cdef dict _failures
    cdef set _met
    cdef dict _tries
    cdef bint _said

    cpdef object forgive(self, double due, double now, double fair)
    cpdef object met(self, Server server)
    cpdef object hear(self, Reply reply)
    cpdef object refused(self, Server server, Reply reply)
    cpdef object note(self, Server server, object failure, bint late)
    cpdef bint passes_over(self, Server server, double now)
