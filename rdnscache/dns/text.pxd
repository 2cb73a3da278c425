cimport cython

from rdnscache.dns.names cimport class_text, read_name, type_text
from rdnscache.dns.wire cimport Reply, read_u32

@cython.locals(count=Py_ssize_t)
cpdef str answer_text(Reply reply)

@cython.locals(room=Py_ssize_t, shown=list, line=str)
cpdef list bounded(object lines, Py_ssize_t count)

@cython.locals(
    wire=bytes, ttls=bytes, owner_at=Py_ssize_t, room=Py_ssize_t, asked=str, out=list, index=Py_ssize_t, at=Py_ssize_t,
    end=Py_ssize_t, owner=str, rtype=int, rclass=int, known=bint, data=str, line=str, to_question=bint
)
cdef list _lines(Reply reply, Py_ssize_t count)
cdef str _owner_text(bytes wire, Py_ssize_t start)
cpdef str rdata_text(bytes wire, int rtype, Py_ssize_t start, Py_ssize_t stop)
cpdef str generic_text(bytes data)
cpdef tuple _ipv4(bytes wire, Py_ssize_t at, Py_ssize_t stop)
