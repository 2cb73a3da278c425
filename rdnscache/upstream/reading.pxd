cimport cython
from rdnscache.dns.wire cimport Reply, parse_error, parse_reply
@cython.locals(reply=Reply)
cpdef Reply read_reply(bytes key, bytes data)
cpdef bint about(bytes key, bytes data)
