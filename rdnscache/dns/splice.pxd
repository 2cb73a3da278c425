cpdef bytes splice_key(bytes data, Py_ssize_t root, int variant)

cpdef bytes splice_view(bytes key, Py_ssize_t end, int number)

cpdef bytes splice_type(bytes key, int number)

cpdef bytes cut(bytes data, Py_ssize_t start, Py_ssize_t end)

cpdef bytes whole(bytearray data)

cpdef bint repeats(bytes data, Py_ssize_t end, bytes asked) except -1

cpdef bytearray splice_stored(
    bytes wire, Py_ssize_t end, int flags, int ancount, int nscount, int arcount, bytes asked
)

cpdef bytes splice_query(bytes ident, int flags, bytes asked, bytes opt)

cpdef bytes splice_reply(
    bytes data, Py_ssize_t end, int flags, int ancount, int nscount, int arcount, bytes tail, Py_ssize_t size, bytes opt
)
cpdef bytes aged_tail(bytes tail, bytes ttls, long seconds, long fixed)
cpdef bytes rebased(bytes ttls, Py_ssize_t end)
