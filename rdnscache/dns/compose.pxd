cimport cython

from rdnscache.dns.entry cimport Entry
from rdnscache.dns.splice cimport splice_reply
from rdnscache.dns.wire cimport Query

@cython.locals(data=bytes, age=int, tail=bytes, flags=int, opt=bytes, room=Py_ssize_t, size=Py_ssize_t, ancount=int, nscount=int, arcount=int)
cpdef bytes compose(Query query, Entry entry, double now)
