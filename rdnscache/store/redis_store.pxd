from rdnscache.store.servers cimport Servers


cdef class RedisStore:
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
    cdef object _budgets
    cdef public object ask_for_slots
    cdef object _local
    cdef object _worker_id
    cdef public object flushes
    cdef public object flushed_at
    cdef object _control
    cdef public Servers servers
    cdef set _lost_with
    cdef object _renewer
    cdef object _settled

    cpdef bint may_read(self, bytes name)
