cimport cython

from rdnscache.dns.names cimport class_text, type_text
from rdnscache.dns.question cimport qclass, qtype, route_of, subnet, variant
from rdnscache.dns.splice cimport cut
from rdnscache.store.packing cimport spell, widen

cdef dict _tails
cdef bytes _NAME_WORD

@cython.locals(number=int, klass=int, bits=int, text=str, tail=bytes)
cdef bytes _tail(bytes key)


cdef class Names:
    cdef object _prefix
    cdef public str root
    cdef bytes _head
    cdef public str steering
    cdef public bytes control
    cdef public bytes acks
    cdef public bytes nodes
    cdef public bytes hot
    cdef public bytes odd
    cdef public bytes flushing
    cdef int _longest
    cdef object _key

    @cython.locals(tail=bytes)
    cpdef bytes entry(self, bytes key)
    cpdef bytes wider_entry(self, bytes entry)
