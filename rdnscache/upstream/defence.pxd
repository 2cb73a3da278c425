cimport cython

cdef int _CASE_UNTIL


cdef class Defence:
    cdef double[:] _numbers
    cdef bint _wanted
    cdef readonly bint spells
    cdef bytes _chance
    cdef Py_ssize_t _taken
    cdef set _missed

    @cython.locals(size=Py_ssize_t, at=Py_ssize_t)
    cpdef bytes spelled(self, bytes key)
    cpdef object repeated(self, bytes asked)
    cpdef bint missed(self, bytes key, double now) except -1
