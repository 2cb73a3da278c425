cpdef bytes splice_key(bytes data, Py_ssize_t root, int variant)

cpdef bytes splice_view(bytes key, Py_ssize_t end, int number)

cpdef bytes splice_reply(
    bytes data, Py_ssize_t end, int flags, int ancount, int nscount, int arcount, bytes tail, Py_ssize_t size, bytes opt
)
