from rdnscache.dns.entry cimport Entry
from rdnscache.store.interface cimport Claim


cdef class RedisClaim(Claim):
    cdef object _store
    cdef bytes _name
    cdef tuple _keys
    cdef bytes _token
    cdef bytes _offered
    cdef double _claimed
    cdef int _followed
    cdef bint _slow
    cdef bint _late
    cdef bint _leads
    cdef long _flushes
    cdef tuple _held
    cdef bint _away
    cdef bint _unbelieved
    cdef bint _known
    cdef bint _wary
    cdef Entry _mail
    cdef object _switch

    cpdef Entry _read(self, bytes key, bytes name, object late)
    cpdef Entry _entry_of(self, bytes key, bytes name, list replies)
    cpdef object _send_fill(self, tuple told)
