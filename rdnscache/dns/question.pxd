from rdnscache.dns.splice cimport cut, splice_type, splice_view

cdef int _ANY_TYPE

cpdef bytes question_key(bytes name, int number, int class_number, int bits)
cdef Py_ssize_t _name_end(bytes key) except? -1
cpdef bytes qname(bytes key)
cpdef int qtype(bytes key) except -1
cpdef int qclass(bytes key) except -1
cpdef int variant(bytes key) except -1
cpdef bytes section(bytes key)
cpdef bytes subnet(bytes key)
cpdef bytes with_subnet(bytes key, bytes network)
cpdef bytes wider_key(bytes key)
cpdef int view_number(bytes key) except -2
cpdef bytes route_of(bytes key)
cpdef bytes with_view(bytes key, int number)
cpdef bytes with_route(bytes key, bytes digest)
cpdef bytes bare_key(bytes key)
cpdef bytes with_type(bytes key, int number)
