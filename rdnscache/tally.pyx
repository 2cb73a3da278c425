"""Numbers in memory that all can see, counted; see tally.py. What memory it is, and each place in it, is checked."""

from cpython.buffer cimport Py_buffer
from libc.stdint cimport uint64_t

cdef extern from "Python.h":
    bint PyMemoryView_Check(object view)
    Py_buffer* PyMemoryView_GET_BUFFER(object view)


cpdef object count(object numbers, Py_ssize_t at, long long more):
    cdef uint64_t* places = _places(numbers, at)
    if places == NULL:
        numbers[at] += more
    else:
        places[at] += <uint64_t> more


cdef uint64_t* _places(object numbers, Py_ssize_t at) noexcept:
    """Where they are, if there is one at `at` and all are as in a row of counters; else NULL."""
    cdef Py_buffer* memory
    if not PyMemoryView_Check(numbers):
        return NULL
    memory = PyMemoryView_GET_BUFFER(numbers)
    if memory.buf == NULL or memory.readonly or memory.ndim != 1 or memory.itemsize != sizeof(uint64_t):
        return NULL
    if memory.format == NULL or memory.format[0] != c"Q" or memory.format[1] != 0:
        return NULL
    if memory.strides == NULL or memory.strides[0] != memory.itemsize or memory.shape == NULL:
        return NULL
    return <uint64_t*> memory.buf if 0 <= at < memory.shape[0] else NULL
