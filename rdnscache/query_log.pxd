cdef class QueryLog:
    cdef long _every
    cdef long _until_next
    cdef dict _heat
    cdef public object views
    cdef public list hottest
    cdef object _slow

    cpdef object heat(self, bytes key, long queries)
    cpdef bint due(self, long queries) except -1
