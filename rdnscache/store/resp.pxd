cimport cython

cdef int _STRING, _BULK_ERROR, _VERBATIM, _LIST, _SET, _MAP, _PUSH, _STATUS, _ERROR, _NUMBER, _NULL, _BOOLEAN, _DOUBLE
cdef int _DIGITS
cdef object _OPENED, _MORE


cdef class Reader:
    cdef Py_ssize_t _longest_string
    cdef Py_ssize_t _longest_reply
    cdef Py_ssize_t _most_elements
    cdef bytes _data
    cdef Py_ssize_t _at
    # Or a list of its own kind, which Cython would refuse here.
    cdef object _values
    cdef Py_ssize_t _missing
    cdef list _around
    cdef int _depth
    cdef Py_ssize_t _elements
    cdef Py_ssize_t _octets
    cdef int _kind
    cdef bytearray _part
    cdef long long _size
    cdef long long _rest
    cdef bint _kept

    cpdef object feed(self, bytes data)
    cpdef bint has_data(self)
    cpdef object gets(self)
    @cython.locals(data=bytes, start=Py_ssize_t, stop=Py_ssize_t, end=Py_ssize_t, kind=int, size=cython.longlong)
    cdef object _item(self)
    @cython.locals(data=bytes, value=cython.longlong, negative=bint, digit=int, index=Py_ssize_t)
    cdef long long _number(self, Py_ssize_t start, Py_ssize_t end) except? -2
    cdef object _open(self, int kind, long long count)
    @cython.locals(data=bytes, start=Py_ssize_t, end=Py_ssize_t)
    cdef object _string(self, int kind, long long size)
    @cython.locals(data=bytes, start=Py_ssize_t, end=Py_ssize_t, part=bytearray)
    cdef object _rest_of_string(self)


cdef object _odd_string(int kind, bytes text)
cdef object _simple(int kind, bytes text)
