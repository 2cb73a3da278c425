cimport cython

from rdnscache.dns.question cimport qclass, qtype, variant
from rdnscache.dns.records cimport Names, Record, Writer, records_of
from rdnscache.dns.splice cimport cut
from rdnscache.dns.wire cimport Reply

cdef int _NOERROR, _ANY, _CNAME, _DNAME, _NS, _SOA, _NSEC, _NSEC3, _RRSIG


cpdef object distill(bytes key, Reply reply)

@cython.locals(
    wire=bytes, ttls=bytes, start=Py_ssize_t, named_at=Py_ssize_t, at_end=bint, asked=int, klass=int, number=int,
    index=Py_ssize_t, at=Py_ssize_t
)
cdef bint _usual(bytes key, Reply reply) except? -1

@cython.locals(wire=bytes, at=Py_ssize_t)
cdef bint _denies(bytes key, Reply reply) except? -1


cdef class _Distillation:
    cdef Reply _reply
    cdef Names _names
    cdef int _qtype
    cdef int _qclass
    cdef bint _do
    cdef dict _chain
    cdef int _end
    cdef dict _aliases
    cdef list _made
    cdef list _answers
    cdef list _authority

    @cython.locals(reply=Reply, found=bint, soa=Record)
    cdef object result(self)

    @cython.locals(
        names=Names, qtype=int, ends=set, cnames=dict, dnames=dict, record=Record, name=int, place=int, cname=Record,
        dname=Record, target=int
    )
    cdef bint _follow(self) except? -1

    @cython.locals(names=Names)
    cdef bint _stop_at(self, int name, Record cname, Record dname) except? -1

    cdef _alias(self, Record record, int place)

    @cython.locals(dname=Record)
    cdef Record _dname_above(self, int name, dict dnames)

    @cython.locals(wire=bytes, ttl=long)
    cdef _synthesise(self, int name, int target, int place, Record cname, Record dname)

    @cython.locals(qtype=int, end=int, last=int, found=bint, record=Record, covered=int)
    cdef bint _place_answers(self) except? -1

    @cython.locals(at=Py_ssize_t)
    cdef int _covered(self, Record rrsig) except? -1

    @cython.locals(record=Record)
    cdef Record _place_soa(self)

    @cython.locals(record=Record)
    cdef bint _says_something(self) except? -1

    @cython.locals(
        names=Names, zones=set, name=int, signed=set, place=int, record=Record, covered=int, ours=bint, signer=int
    )
    cdef _place_proofs(self, Record soa)

    @cython.locals(
        reply=Reply, answers=list, authority=list, record=Record, wire=bytes, at=Py_ssize_t, start=Py_ssize_t,
        end=Py_ssize_t
    )
    cdef object _assembled(self)

    @cython.locals(place=int, record=Record)
    cdef bint _in_order(self, list answers) except? -1

    cdef bint _first(self, list answers, list authority) except? -1


@cython.locals(kept=list, record=Record)
cdef list _kept(list records)

@cython.locals(record=Record)
cpdef int _place(Record record)

cdef _cut(Reply reply, int ancount, int nscount, Py_ssize_t authority, Py_ssize_t end)
