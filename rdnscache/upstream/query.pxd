cdef class Query:
    cdef public bytes key
    cdef public bint edns
    cdef public double due
    cdef public object carrier
    cdef public long long number
    cdef public double sent_at
    cdef public int losses

    cpdef bytes message(self, bytes ident, int block=*, bytes options=*)
    cpdef bytes datagram(self, bytes ident)
    cpdef bytes repetition(self, bytes data)
    cpdef object arrived(self, bytes data)
    cpdef bint take(self, bytes data) except -1
    cpdef object wake(self)
    cpdef bint may_repeat(self) except -1
    cpdef object guessed(self)
    cpdef object failed(self, object failure)
