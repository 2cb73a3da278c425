cimport cython

from rdnscache.dns.wire cimport Reply, parse_reply

cdef int _NAME, _STRING, _MOST_LABELS


cdef class Names:
    cdef bytes wire
    cdef readonly list labels
    cdef readonly list parents
    cdef list sizes
    cdef dict _known
    cdef int spelled
    cdef dict _numbers

    @cython.locals(wire=bytes, starts=list, number=int, size=int)
    cpdef int read(self, Py_ssize_t at) except? -2

    @cython.locals(key=tuple, number=int)
    cdef int child(self, bytes label, int parent) except? -2

    cdef int moved(self, int name, int old, int new) except? -2
    cdef bint crowded(self) except? -1
    cdef bint under(self, int name, int ancestor) except? -1


cdef class Record:
    cdef Py_ssize_t start
    cdef readonly Py_ssize_t ttl_at
    cdef readonly Py_ssize_t end
    cdef readonly int owner
    cdef readonly int rtype
    cdef readonly int rclass
    cdef int place
    cdef int target
    cdef long ttl


@cython.locals(wire=bytes, ttls=bytes, out=list, index=Py_ssize_t, at=Py_ssize_t, end=Py_ssize_t, rtype=int, rclass=int)
cpdef list records_of(Reply reply, Names names, int first, int count, Py_ssize_t start)


cdef class Writer:
    cdef Names _names
    cdef Reply _reply
    cdef bytearray _out
    cdef dict _written

    @cython.locals(reply=Reply, out=bytearray, record=Record, written=Reply)
    cdef object write(self, list answers, list authority)

    @cython.locals(at=Py_ssize_t, name=int)
    cdef _note_question(self)

    @cython.locals(names=Names, out=bytearray, at=Py_ssize_t, label=bytes)
    cdef _name(self, int name, bint compressed)

    @cython.locals(wire=bytes, out=bytearray, start=Py_ssize_t, size=Py_ssize_t)
    cdef _record(self, Record record)

    @cython.locals(wire=bytes, out=bytearray, at=Py_ssize_t, start=Py_ssize_t, end=Py_ssize_t)
    cdef _data(self, Record record)


@cython.locals(shape=bytes, found=list, letter=int, start=Py_ssize_t)
cpdef list names_of(bytes wire, int rtype, int rclass, Py_ssize_t at, Py_ssize_t end)
