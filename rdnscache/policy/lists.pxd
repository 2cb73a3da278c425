cdef class Lists:
    cdef list _finds
    cdef object _directives
    cdef bint _paused
    cdef bint _blocks
    cdef readonly object rpz
    cdef bint _block

    cpdef object find(self, bytes name)
