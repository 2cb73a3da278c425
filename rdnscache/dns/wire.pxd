cimport cython

from rdnscache.dns.question cimport section, variant
from rdnscache.dns.rdata cimport name_end, no_names, rdata_holds
from rdnscache.dns.splice cimport splice_key, splice_query, whole

cdef int _A, _SOA, _AAAA, _OPT, _TSIG, _IN, _EDE, _COOKIE, _DO, _CD, _SUBNET


cdef class Query:
    cdef public bytes data
    cdef public bytes key
    cdef public Py_ssize_t end
    cdef public int qtype
    cdef public int qclass
    cdef public bint edns
    cdef public bint do
    cdef public Py_ssize_t limit
    cdef public int error
    cdef public int rcode
    cdef public bytes source
    cdef public int group
    cdef public bint trace
    cdef public bytes note
    cdef public object watch
    cdef public bytes subnet
    cdef public bint echo

@cython.locals(length=Py_ssize_t, root=Py_ssize_t, end=Py_ssize_t, query=Query, bits=int)
cpdef object parse_query(bytes data, bint stream)

@cython.locals(version=int, start=Py_ssize_t, stop=Py_ssize_t)
cdef object _read_additional(Query query, bytes data, Py_ssize_t position, Py_ssize_t length, bint stream)

@cython.locals(size=int)
cdef _note_opt(Query query, bytes data, Py_ssize_t position, bint stream)

@cython.locals(position=Py_ssize_t, passed=int, index=int, start=Py_ssize_t)
cdef object _find_opt(Query query, bytes data, Py_ssize_t length, bint stream)

@cython.locals(code=int, start=Py_ssize_t)
cdef object _read_options(Query query, bytes data, Py_ssize_t position, Py_ssize_t stop)

@cython.locals(position=Py_ssize_t, size=Py_ssize_t)
cdef Py_ssize_t _name_end(bytes data, Py_ssize_t start, Py_ssize_t length, bint pointers) except? -2

cdef class Reply:
    cdef public bytes wire
    cdef public int flags
    cdef public int rcode
    cdef public Py_ssize_t end
    cdef public int ancount
    cdef public int nscount
    cdef public int arcount
    cdef public Py_ssize_t authority
    cdef public Py_ssize_t additional
    cdef public bytes ttls
    cdef public list types
    cdef public Py_ssize_t soa_ttl_at
    cdef public unsigned int soa_minimum
    cdef public int ede
    cdef public bytes cookie
    cdef public bytes subnet
    cdef public bint plain

@cython.locals(length=Py_ssize_t, position=Py_ssize_t, reply=Reply, ttls=bytearray, seen=bytearray)
cpdef object parse_reply(bytes data)

@cython.locals(reply=Reply)
cpdef object parse_error(bytes key, bytes data)

@cython.locals(
    first_additional=int, asked="unsigned int", opt_seen=bint, cut=Py_ssize_t, index=int, start=Py_ssize_t, rtype=int,
    stop=Py_ssize_t
)
cdef bint _read_records(
    Reply reply, bytes data, Py_ssize_t position, Py_ssize_t length, bytearray ttls, bytearray seen
) except? -1

@cython.locals(rclass=int)
cdef bint _record_holds(bytes data, int rtype, Py_ssize_t position, Py_ssize_t stop, bytearray seen) except? -1

@cython.locals(size=Py_ssize_t, code=int)
cdef _note_options(Reply reply, bytes data, Py_ssize_t position, Py_ssize_t stop)

@cython.locals(bits=int, flags=int, opt=bytes)
cpdef bytes build_query(bytes ident, bytes key, bint edns, bytes options=*, int block=*, bytes asked=*)

@cython.locals(first="unsigned int")
cpdef unsigned int read_u32(bytes data, Py_ssize_t at)
