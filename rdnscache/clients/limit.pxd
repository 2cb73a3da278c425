cimport cython

from rdnscache.clients.networks cimport Networks
from rdnscache.dns.wire cimport read_u32

cdef int _WAYS
cdef unsigned long long _IPV4
cdef unsigned long long _WORD

cdef class Limiter:
    cdef Networks _exempt
    cdef double _cost
    cdef double _slack
    cdef int _slip
    cdef unsigned long long _mask4
    cdef unsigned long long _mask6
    cdef unsigned long long _factor
    cdef int _shift
    cdef unsigned long long[::1] _keys
    cdef double[::1] _full
    cdef unsigned char[::1] _slipped
    @cython.locals(key=cython.ulonglong, bucket=Py_ssize_t, full=double)
    cpdef int check(self, bytes source, double now) except -1
    @cython.locals(size=Py_ssize_t, high=cython.ulonglong)
    cdef unsigned long long _key(self, bytes source) except? 1
    @cython.locals(first=Py_ssize_t, fullest=Py_ssize_t, bucket=Py_ssize_t)
    cdef Py_ssize_t _find(self, unsigned long long key) except -1
    @cython.locals(count=int)
    cdef int _over(self, Py_ssize_t bucket) except -1
