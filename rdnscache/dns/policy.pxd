cimport cython
from rdnscache.dns.wire cimport Reply, Query, read_u32

cpdef bint usable(Reply reply)
cpdef object distill(bytes key, Reply reply)
cpdef bint negative(Reply reply, int qtype)
@cython.locals(wire=bytearray, is_negative=bint, ttl=long, index=Py_ssize_t, at=Py_ssize_t, seconds=long)
cpdef tuple settle(bytes key, Reply reply, object limits)
cpdef bytes stored_header(bytes key, Reply reply)
cpdef bytes failure_wire(bytes key, int rcode=*)
cpdef bytes answer_ourselves(Query query, object identity)
