cpdef bytes question_key(bytes name, int number, int class_number, int bits)
cpdef bytes qname(bytes key)
cpdef int qtype(bytes key) except -1
cpdef int qclass(bytes key) except -1
cpdef int variant(bytes key) except -1
cpdef bytes section(bytes key)
cpdef bytes subnet(bytes key)
cpdef bytes with_subnet(bytes key, bytes network)
cpdef bytes wider_key(bytes key)
