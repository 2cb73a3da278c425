cimport cython
from rdnscache.dns.question cimport qname, qtype, section, variant
from rdnscache.dns.wire cimport Reply, Query, read_u32

cpdef bint usable(Reply reply)
cpdef bint negative(Reply reply, int qtype)
@cython.locals(
    wire=bytearray, asked=int, is_negative=bint, ttl_min=long, ttl_max=long, negative_max=long, ttl=long,
    answers=Py_ssize_t, index=Py_ssize_t, at=Py_ssize_t, seconds=long
)
cpdef tuple settle(bytes key, Reply reply, object limits)
cdef bint _unfinished(Reply reply, int qtype) except? -1
cdef _put_u32(bytearray wire, Py_ssize_t at, long number)
cdef long _sane(long ttl) except? -1
cpdef bytes stored_header(bytes key, Reply reply)
cpdef bytes failure_wire(bytes key, int rcode=*)
cpdef bytes answer_ourselves(Query query, object identity)
