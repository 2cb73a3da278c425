from rdnscache.dns.wire cimport Reply
from rdnscache.upstream.server cimport Server


cdef class Search:
    cdef readonly bytes key
    cdef readonly double started
    cdef public double deadline
    cdef readonly double due
    cdef bint _forgiven
    cdef readonly long waited
    cdef int _ede
    cdef dict _failures
    cdef set _met
    cdef dict _tries
    cdef bint _said

    cpdef object wait(self, double now, double seconds)
    cpdef bint late(self, double now)
    cpdef object forgive(self, double now, double fair)
    cpdef object met(self, Server server)
    cpdef object hear(self, Reply reply)
    cpdef object refused(self, Server server, Reply reply, double now)
    cpdef object note(self, Server server, object failure, double now)
    cpdef bint passes_over(self, Server server, double now)
