cimport cython


cdef class Frames:
    cdef bytes _data
    cdef Py_ssize_t _at
    cdef list _pieces
    cdef Py_ssize_t _missing

    cpdef object feed(self, bytes data)
    @cython.locals(data=bytes, start=Py_ssize_t, left=Py_ssize_t, end=Py_ssize_t)
    cpdef bytes next(self)


cpdef bytes framed(bytes message)
