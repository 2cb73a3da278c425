cimport cython

from rdnscache.dns.entry cimport Entry
from rdnscache.dns.question cimport qtype, section, wider_key
from rdnscache.dns.splice cimport cut, repeats
from rdnscache.dns.wire cimport Reply, parse_reply, read_u32

cdef bytes _MOMENT
cdef set _rcodes
cdef dict _rests
cdef int _ANY_TYPE
cdef long long _NO_TTL
cdef object _WHOLE


cdef class Rest:
    cdef str origin
    cdef int scope
    cdef int ede


@cython.freelist(8)
cdef class Told:
    cdef Rest rest
    cdef long stale
    cdef long ttl


@cython.locals(
    told=Told, reply=Reply, ttl=long, stale=long, lifetime=cython.longlong, left=cython.longlong,
    least=cython.longlong, most=cython.longlong, ttl_max=cython.longlong, stored=double, entry=Entry
)
cpdef Entry decode(
    bytes key, object info, object wire, object left_ms, double now, object limits=*, Reply parsed=*
)
@cython.locals(words=list, rcode=bytes, moment=bytes, ttl=long, stale=long, rest=Rest)
cdef Told _read(bytes info)
cpdef str info_text(
    int rcode, int ttl, int stale, object stored, object source, object node, object why=*, int ede=*, object route=*,
    int scope=*, object seen=*
)
cdef bint _is_rcode(bytes word) except -1
@cython.locals(start=Py_ssize_t, end=Py_ssize_t, value=long, index=Py_ssize_t, digit=int)
cdef long _number(bytes word, bytes what) except -2
cdef bint _is_moment(bytes word) except -1
cdef Rest _read_rest(bytes words)
@cython.locals(told=Told)
cpdef bint mistimed(object info, object left_ms) except -1
cdef bint _answers(bytes key, Reply reply) except -1
@cython.locals(index=Py_ssize_t, least=cython.longlong, most=cython.longlong, ttl=cython.longlong)
cdef tuple _ttl_range(bytes wire, bytes ttls)
