cimport cython

from rdnscache.dns.entry cimport Entry
from rdnscache.store.decoding cimport decode, mistimed

cdef object _WHOLE


cdef class Trust:
    cdef str _node
    cdef object _terms
    cdef object _usual
    cdef object _seal
    cdef object _discard
    cdef object _counters
    cdef object _forged
    cdef object _under_way
    cdef public object clocks
    cdef public tuple mac_field

    @cython.locals(now=double, entry=Entry)
    cpdef Entry entry_of(self, bytes key, bytes name, list fields, object left_ms)
    cdef object _put_back(self, Entry entry, bytes info, double now)
    cpdef bint believes(self, Entry failure) except -1
    cpdef tuple signed(self, bytes name, bytes info, bytes wire)
