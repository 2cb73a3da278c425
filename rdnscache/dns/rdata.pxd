cimport cython

cdef int _NAME_SIZE, _MAX_POINTERS, _REACH
cdef int _IN, _CH, _A
cdef int _NAME, _UNCOMPRESSED, _STRING, _STRINGS, _BITMAP, _PARAMETERS
cdef bytes _WIDTHS, _REST, _CHAOS_A
cdef dict _CHECKS
cdef int _MANDATORY, _ALPN, _NO_DEFAULT_ALPN, _PORT, _IPV4HINT, _ECH, _IPV6HINT, _OHTTP, _DOCPATH

cpdef bytearray no_names(Py_ssize_t length)

@cython.locals(
    position=Py_ssize_t, length=Py_ssize_t, hops=int, size=Py_ssize_t, end=Py_ssize_t, target=Py_ssize_t,
    at=Py_ssize_t
)
cpdef Py_ssize_t name_end(bytes data, Py_ssize_t start, Py_ssize_t stop, bytearray seen, bint pointers) except? -2

@cython.locals(shape=bytes, position=Py_ssize_t, letter=int, width=int)
cpdef bint rdata_holds(bytes data, int rtype, int rclass, Py_ssize_t start, Py_ssize_t stop, bytearray seen) except? -1

cdef Py_ssize_t _string_end(bytes data, Py_ssize_t at, Py_ssize_t stop) except? -2
cdef Py_ssize_t _strings_end(bytes data, Py_ssize_t at, Py_ssize_t stop) except? -2

@cython.locals(last=int)
cdef Py_ssize_t _bitmap_end(bytes data, Py_ssize_t at, Py_ssize_t stop) except? -2

@cython.locals(first=Py_ssize_t, last=int, mandatory=Py_ssize_t, alpn=bint, key=int, size=Py_ssize_t, end=Py_ssize_t)
cdef Py_ssize_t _parameters_end(bytes data, Py_ssize_t at, Py_ssize_t stop, int priority) except? -2

cdef bint _parameter_holds(bytes data, int key, Py_ssize_t at, Py_ssize_t end, Py_ssize_t size) except? -1

@cython.locals(end=Py_ssize_t, wanted=int, key=int)
cdef bint _mandatory_holds(bytes data, Py_ssize_t at, Py_ssize_t first, Py_ssize_t stop) except? -1
