cimport cython

from rdnscache.tally cimport count

cdef int _OTHER_RCODE, _SUM, _BUCKETS
cdef double[:] _BOUNDS


cpdef object count_reply(object counters, int first, int rcode)
@cython.locals(place=int)
cpdef object observe(object counters, int histogram, double seconds, int events)
