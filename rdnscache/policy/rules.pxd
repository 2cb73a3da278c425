cimport cython

from rdnscache.dns.entry cimport Entry
from rdnscache.dns.question cimport qclass, qname, qtype, section
from rdnscache.policy.lists cimport Lists


cdef class Policy:
    cdef object _local
    cdef object _files
    cdef public Lists lists
    cdef object _answer
    cdef object _special
    cdef object _terms
    cdef tuple _ends
    cdef bint _single

    cpdef bint changes_answers(self) except -1
    cpdef object of(self, bytes key)
    @cython.locals(name=bytes)
    cpdef bint _may_decide(self, bytes key) except -1
