cimport cython
from rdnscache.dns.wire cimport Reply, build_query
from rdnscache.upstream.reading cimport about, read_reply
@cython.locals(reply=Reply)
cpdef Reply exchange(object server, bytes key, bint edns, double timeout, bytes header=*)
@cython.locals(reply=Reply, ident=bytes, data=bytes, sent=bint)
cpdef Reply over_udp(object server, bytes key, bint edns, double deadline, bytes header=*)
@cython.locals(reply=Reply, ident=bytes, query=bytes, data=bytes, sent=bint)
cpdef Reply over_tcp(object server, bytes key, bint edns, double deadline, bytes header=*)
@cython.locals(data=bytearray)
cpdef bytes _receive(object server, object sock, double deadline)
cpdef bint wait(int fd, int events, double deadline)
