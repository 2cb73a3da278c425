from rdnscache.store.contract cimport Names
from rdnscache.store.interface cimport Claim
from rdnscache.store.servers cimport Servers
from rdnscache.store.trust cimport Trust


cdef class ClaimStore:
    cdef public Names names
    cdef public object node
    cdef public long lease_ms
    cdef public bytes wake_channel
    cdef public Trust trust
    cdef public Servers servers
    cdef public object flushes
    cdef public object flushed_at

    cpdef bint asks(self) except -1
    cpdef object follow(self, bytes name, Claim claim)
    cpdef object leave_following(self, bytes name, Claim claim)
    cpdef bytes token(self)
    cpdef object time_text(self)
    cpdef object seen(self)
    cpdef object read_command(self, bytes name)
    cpdef bint may_read(self, bytes name) except -1
