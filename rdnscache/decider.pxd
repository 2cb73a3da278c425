cimport cython

from rdnscache cimport clock
from rdnscache.dns.entry cimport Entry
from rdnscache.flights cimport Flight
from rdnscache.policy.rules cimport Policy


cdef class Decider:
    cdef Policy _policy
    cdef object _cache
    cdef str _node
    cdef object _refused
    cdef double _changed

    cpdef bint decide(self, Flight flight, object flights) except -1
    cpdef bint lacks(self, Entry entry) except -1
    @cython.locals(found=Entry, changed=double)
    cpdef Entry settled(self, Entry entry, Flight flight, object flights)
    @cython.locals(found=Entry)
    cpdef Entry instead_of(self, Entry entry, Flight flight, object flights)
