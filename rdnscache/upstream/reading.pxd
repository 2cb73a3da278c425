cimport cython
from rdnscache.dns.wire cimport Reply, parse_reply
@cython.locals(reply=Reply)
cpdef Reply read_reply(bytes key, bytes data)
cpdef bint about(bytes key, bytes data)
cpdef Reply _read_oddity(bytes key, bytes data)
