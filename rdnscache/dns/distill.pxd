cimport cython

from rdnscache.dns.wire cimport Reply, parse_reply

cdef int _ANY, _CNAME, _DNAME, _NS, _SOA, _NSEC, _NSEC3, _RRSIG
cdef int _NAME, _STRING


cdef class _Names:
    cdef bytes wire
    cdef list labels
    cdef list parents
    cdef list sizes
    cdef dict _known
    cdef dict _numbers

    @cython.locals(wire=bytes, starts=list, number=int, size=int)
    cdef int read(self, Py_ssize_t at) except? -2

    @cython.locals(key=tuple, number=int)
    cdef int child(self, bytes label, int parent) except? -2

    cdef int moved(self, int name, int old, int new) except? -2
    cdef bint under(self, int name, int ancestor) except? -1


cdef class _Record:
    cdef Py_ssize_t start
    cdef Py_ssize_t ttl_at
    cdef Py_ssize_t end
    cdef int owner
    cdef int rtype
    cdef int rclass
    cdef int place
    cdef int target
    cdef long ttl


cpdef object distill(bytes key, Reply reply)


cdef class _Distillation:
    cdef Reply _reply
    cdef _Names _names
    cdef int _qtype
    cdef int _qclass
    cdef bint _do
    cdef dict _chain
    cdef int _end
    cdef dict _aliases
    cdef list _made
    cdef list _answers
    cdef list _authority

    @cython.locals(reply=Reply, found=bint, soa=_Record)
    cdef object result(self)

    @cython.locals(wire=bytes, ttls=bytes, names=_Names, out=list, index=Py_ssize_t, at=Py_ssize_t, end=Py_ssize_t, rtype=int, rclass=int)
    cdef list _records(self, int first, int count, Py_ssize_t start)

    @cython.locals(names=_Names, qtype=int, ends=set, cnames=dict, dnames=dict, record=_Record, name=int, place=int, cname=_Record, dname=_Record, target=int)
    cdef bint _follow(self) except? -1

    cdef _alias(self, _Record record, int place)

    @cython.locals(dname=_Record)
    cdef _Record _dname_above(self, int name, dict dnames)

    @cython.locals(wire=bytes, ttl=long)
    cdef _synthesise(self, int name, int target, int place, _Record cname, _Record dname)

    @cython.locals(qtype=int, end=int, last=int, found=bint, record=_Record, covered=int)
    cdef bint _place_answers(self) except? -1

    @cython.locals(at=Py_ssize_t)
    cdef int _covered(self, _Record rrsig) except? -1

    @cython.locals(record=_Record)
    cdef _Record _place_soa(self)

    @cython.locals(record=_Record)
    cdef bint _says_something(self) except? -1

    @cython.locals(names=_Names, zones=set, name=int, signed=set, place=int, record=_Record, covered=int, ours=bint, signer=int)
    cdef _place_proofs(self, _Record soa)

    @cython.locals(reply=Reply, answers=list, authority=list, record=_Record, wire=bytes, at=Py_ssize_t)
    cdef object _assembled(self)

    @cython.locals(place=int, record=_Record)
    cdef bint _in_order(self, list answers) except? -1

    cdef bint _first(self, list answers, list authority) except? -1


@cython.locals(kept=list, record=_Record)
cdef list _kept(list records)

@cython.locals(record=_Record)
cpdef int _place(_Record record)

@cython.locals(record=_Record)
cdef _cut(Reply reply, list answers, list authority)


cdef class _Writer:
    cdef _Names _names
    cdef Reply _reply
    cdef bytearray _out
    cdef dict _written

    @cython.locals(reply=Reply, out=bytearray, record=_Record, written=Reply)
    cdef object write(self, list answers, list authority)

    @cython.locals(at=Py_ssize_t, name=int)
    cdef _note_question(self)

    @cython.locals(names=_Names, out=bytearray, at=Py_ssize_t, label=bytes)
    cdef _name(self, int name, bint compressed)

    @cython.locals(wire=bytes, out=bytearray, start=Py_ssize_t, size=Py_ssize_t)
    cdef _record(self, _Record record)

    @cython.locals(wire=bytes, out=bytearray, at=Py_ssize_t, end=Py_ssize_t, shape=bytes, letter=int, size=Py_ssize_t)
    cdef _data(self, _Record record)
