cimport cython

from rdnscache.dns.entry cimport Entry
from rdnscache.dns.splice cimport splice_reply
from rdnscache.dns.wire cimport Query

@cython.locals(
    data=bytes, age=int, tail=bytes, flags=int, opt=bytes, room=Py_ssize_t, size=Py_ssize_t, ancount=int, nscount=int,
    arcount=int
)
cpdef bytes compose(Query query, Entry entry, double now, bint rotate=*)

cpdef bytes opt_record(Query query, int ede, int rcode=*)

cdef int _entry_ede(Entry entry, int age) except? -2

@cython.locals(
    size=Py_ssize_t, offsets=list, index=Py_ssize_t, at=Py_ssize_t, out=bytearray, source=Py_ssize_t, offset=Py_ssize_t
)
cdef bytes _rotated(bytes tail, Entry entry, int qtype, int ident)
