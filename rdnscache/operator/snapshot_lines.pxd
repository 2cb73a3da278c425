cimport cython

from rdnscache.dns.question cimport wider_key
from rdnscache.dns.text cimport answer_text
from rdnscache.dns.wire cimport Reply, parse_reply
from rdnscache.store.contract cimport Names


cdef class LineReader:
    cdef Names _names
    cdef bytes _root
    cdef object _seal
    cdef bytes _seen

    @cython.locals(found=list, refused=Py_ssize_t, line=bytes)
    cpdef tuple entries(self, bytes block)
    @cython.locals(
        told=tuple, key=bytes, info=bytes, wire=bytes, reply=Reply, question=bytes, at=Py_ssize_t, mac=bytes
    )
    cdef tuple _entry(self, bytes line)
    @cython.locals(found=bytes)
    cdef bytes _question(self, bytes key, Reply reply)

@cython.locals(plain=tuple)
cpdef tuple values(bytes line)

@cython.locals(
    before=bytes, after_key=bytes, after_left=bytes, after_info=bytes, end=bytes, start=Py_ssize_t, stop=Py_ssize_t,
    at=Py_ssize_t, until=Py_ssize_t, begin=Py_ssize_t, finish=Py_ssize_t, digits=bytes
)
cdef tuple _plain(bytes line)
