cimport cython
from rdnscache.dns.wire cimport Reply, build_query, parse_reply
@cython.locals(reply=Reply)
cpdef Reply exchange(object server, bytes key, bint edns, double timeout)
@cython.locals(reply=Reply, ident=bytes, data=bytes)
cpdef Reply _over_udp(object server, bytes key, bint edns, double deadline)
@cython.locals(reply=Reply)
cpdef Reply _reply_to(bytes key, bytes data)
cpdef bint wait_readable(int fd, double seconds)
