cimport cython
from rdnscache.dns.question cimport qtype, variant
from rdnscache.dns.splice cimport aged_tail, cut, rebased
from rdnscache.dns.wire cimport Reply

cdef int _DO, _RENEWABLE, _NOERROR, _SOA
cdef double _FAR

cdef class Entry:
    cdef public int action
    cdef public Py_ssize_t additional
    cdef public int aged
    cdef public int ancount
    cdef public int arcount
    cdef public bint authentic
    cdef public int ede
    cdef public Py_ssize_t essential
    cdef public double held_until
    cdef public long hits
    cdef public double renew_at
    cdef public bint renews
    cdef public int scope
    cdef public bytes key
    cdef public int nscount
    cdef public str origin
    cdef public int rcode
    cdef public int stale
    cdef public double stored
    cdef public bytes tail
    cdef public int ttl
    cdef public bytes ttls
    cdef public bint visited
    @cython.locals(end=Py_ssize_t)
    cdef object _take(self, Reply reply)
    @cython.locals(other=Entry)
    cpdef Entry under(self, bytes key)
    cpdef bint fresh(self, double now)
    cpdef bint usable(self, double now)
    @cython.locals(asked=int, tail=bytes, ttls=bytes, index=Py_ssize_t, at=Py_ssize_t)
    cpdef bint unfinished(self) except -1
    cpdef bytes tail_at(self, int age)
