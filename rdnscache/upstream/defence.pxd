cimport cython

from rdnscache.dns.spelling cimport respelled

cdef int _CLIENT, _LEAST, _MOST


cdef class Guard:
    cdef double[:] _numbers
    cdef bint _wanted
    cdef public bint on
    cdef set _missed

    cpdef bint missed(self, bytes key, double now) except -1
    cpdef object spare(self, double now)


cdef class LetterCase(Guard):
    cdef bytes _chance
    cdef Py_ssize_t _taken

    @cython.locals(size=Py_ssize_t, at=Py_ssize_t)
    cpdef bytes spelled(self, bytes key)
    cpdef object repeated(self, bytes asked)


cdef class Cookies(Guard):
    cdef object _address
    cdef readonly bint known
    cdef bint _due
    cdef int _lost
    cdef bytes _client
    cdef bytes _sent
    cdef bytes _option
    cdef str _source
    cdef double _since

    cpdef bytes option(self)
    cpdef bint fits(self, bytes sent, bytes got) except -1
    cpdef object _set(self, bytes cookie)
    cpdef object unheard(self)
    cpdef object heard(self, double now)
    cpdef object spare(self, double now)
    cpdef object forget(self)
