cimport cython

from rdnscache.dns.question cimport qname, qtype, section, subnet, variant
from rdnscache.dns.splice cimport splice_stored, whole
from rdnscache.dns.wire cimport Query, Reply, read_u32

cdef int _NOERROR, _NXDOMAIN, _YXDOMAIN, _CD, _CH, _OPT, _ANY
cdef int _HINFO, _TKEY, _TSIG, _IXFR, _AXFR, _MAILB, _MAILA, _CLASS_NONE, _CLASS_ANY


cdef class Limits:
    cdef readonly long ttl_min
    cdef readonly long ttl_max
    cdef readonly long negative_ttl_max
    cdef readonly long failure_ttl
    cdef readonly long stale
    cdef readonly bint keep


cpdef bint usable(Reply reply)
cpdef bint answers(int rcode)
cpdef bint holds_for_name(Reply reply)
@cython.locals(network=bytes)
cpdef bint holds_widely(bytes key, Reply reply) except -1
cpdef bint negative(Reply reply, int qtype)
@cython.locals(
    wire=bytearray, asked=int, is_negative=bint, ttl_min=long, ttl_max=long, negative_max=long, ttl=long,
    answers=Py_ssize_t, index=Py_ssize_t, at=Py_ssize_t, seconds=long, ancount=int, nscount=int, arcount=int
)
cpdef tuple settle(bytes key, Reply reply, Limits limits)
cdef _put_u32(bytearray wire, Py_ssize_t at, long number)
cdef long _sane(long ttl) except? -1
cpdef int stored_flags(bytes key, Reply reply) except -1
cpdef bytes failure_wire(bytes key, int rcode=*)
cpdef bytes answer_ourselves(Query query, object identity)
