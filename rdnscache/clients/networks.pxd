cimport cython

cdef int _MIXED

cdef class Networks:
    cdef list _starts4
    cdef list _starts6
    cdef bytes _inside4
    cdef bytes _inside6
    cdef bytes _coarse4
    cdef bytes _coarse6
    @cython.locals(size=Py_ssize_t, verdict=int)
    cpdef bint holds(self, bytes address) except -1
    cdef bint _holds_exactly(self, bytes address) except -1

cpdef bytes client_prefix(bytes source)
