from rdnscache.store.claim_store cimport ClaimStore


cdef class RedisStore(ClaimStore):
    cdef object _unusable
    cdef dict _counted
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
    cdef object _control
    cdef set _lost_with
    cdef object _renewer
    cdef object _settled
