from rdnscache.dns.entry cimport Entry


cdef class Claim:
    cdef public bytes key
    cdef public object on_late
    cdef public Entry entry
    cdef public double lease_left
    cdef public bint woken


cdef class NullStore:
    pass
