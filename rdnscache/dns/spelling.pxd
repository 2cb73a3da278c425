cimport cython

from rdnscache.dns.question cimport section


@cython.locals(out=bytearray, at=Py_ssize_t)
cpdef bytes respelled(bytes key, bytes chance)

@cython.locals(end=Py_ssize_t, rest=bytes)
cpdef bytes restored(bytes data, bytes asked, bytes key)
