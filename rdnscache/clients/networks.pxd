cimport cython

cdef int _MIXED, _OUTSIDE

cdef class Networks:
    cdef list _starts4
    cdef list _starts6
    cdef bytes _numbers4
    cdef bytes _numbers6
    cdef bytes _coarse4
    cdef bytes _coarse6
    cpdef bint holds(self, bytes address) except -1
    @cython.locals(size=Py_ssize_t, number=int)
    cpdef int group(self, bytes address) except -2
    @cython.locals(number=int)
    cdef int _exact_group(self, bytes address) except -2

cpdef bytes client_prefix(bytes source)
