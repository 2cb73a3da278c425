cimport cython

from rdnscache.dns.wire cimport Query


cdef class Pace:
    cdef long _stride
    cdef long _total
    cdef long _since
    cdef long _left

    @cython.locals(stands=long)
    cpdef long due(self, long events) except -1


cdef class QueryLog:
    cdef long _every
    cdef long _until_next
    cdef long _kept_every
    cdef long _until_kept
    cdef object _sample
    cdef bint _logs
    cdef bint _keeps
    cdef public object audience
    cdef Pace _asked
    cdef Pace _denied
    cdef Pace _limited
    cdef dict _heat
    cdef public object views
    cdef public list hottest
    cdef object _slow

    @cython.locals(heat=dict, stands=long)
    cpdef object heat(self, bytes key, Query query, long queries)
    cpdef bint due(self, long queries) except -1
    @cython.locals(stands=long)
    cpdef object denied(self, bytes source)
    @cython.locals(stands=long)
    cpdef object limited(self, bytes source)
