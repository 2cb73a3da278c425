cimport cython

@cython.locals(
    number=cython.ulonglong, name=bytes, before=Py_ssize_t, last=Py_ssize_t, at=Py_ssize_t,
    size=Py_ssize_t, depth=int, piles=list
)
cpdef object gather(object lists, bytes key)

cdef class NameTable:
    cdef object _view
    cdef object _hashes
    cdef object _values
    cdef const unsigned char[::1] _filter
    cdef object _directory
    cdef object _keyed
    cdef Py_ssize_t _least
    cdef Py_ssize_t _most
    cdef int _shift
    cdef unsigned long long _mask
    @cython.locals(before=Py_ssize_t, last=Py_ssize_t, at=Py_ssize_t, size=Py_ssize_t, bit=cython.ulonglong)
    cdef bint _may_have(self, bytes name) except -1
    cpdef object find(self, bytes name)
    cdef object _search(self, bytes name)
