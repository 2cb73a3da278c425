cimport cython

from rdnscache.metrics cimport observe
from rdnscache.store.breaker cimport Breaker
from rdnscache.store.link cimport Link
from rdnscache.store.nostore cimport NoStore


cdef class Store(NoStore):
    cdef public object trust
    cdef object _unusable
    cdef public object names
    cdef dict _counted
    cdef public object node
    cdef public long lease_ms
    cdef public bytes wake_channel
    cdef public object counters
    cdef dict _following
    cdef object _token_head
    cdef long _tokens
    cdef object _second
    cdef object _second_text
    cdef object _register
    cdef object _url
    cdef object _prefix
    cdef object _local
    cdef public object flushes
    cdef public object flushed_at
    cdef object _control
    cdef public object link
    cdef Link _one
    cdef public Breaker breaker
    cdef set _lost_with
    cdef object _prober
    cdef object _renewer
    cdef object _settled

    @cython.locals(started=double, now=double, took=double, own=double, lag=double)
    cpdef object ask(self, object late, tuple commands)
    cpdef bint may_read(self, bytes name)
