cimport cython

from rdnscache.dns.names cimport class_text, name_text, type_text
from rdnscache.dns.question cimport qclass, qtype, route_of, subnet, variant


cdef class Names:
    cdef object _prefix
    cdef public str root
    cdef public str steering
    cdef public bytes control
    cdef public bytes acks
    cdef public bytes nodes
    cdef public bytes hot
    cdef public bytes odd
    cdef public bytes flushing
    cdef int _longest
    cdef object _key

    @cython.locals(number=int, klass=int, bits=int, text=str)
    cpdef bytes entry(self, bytes key)
    @cython.locals(at=Py_ssize_t, more=Py_ssize_t)
    cpdef bytes wider_entry(self, bytes entry)
