cimport cython

from rdnscache.dns.question cimport section, subnet
from rdnscache.dns.splice cimport repeats
from rdnscache.dns.wire cimport Reply, parse_error, parse_reply


@cython.locals(reply=Reply, network=bytes)
cpdef Reply read_reply(bytes key, bytes data)

@cython.locals(asked=bytes, told=bytes, names=bytes, end=Py_ssize_t)
cpdef bint about(bytes key, bytes data) except -1
