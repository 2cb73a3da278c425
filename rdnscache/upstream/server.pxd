cimport cython

from rdnscache.metrics cimport observe
from rdnscache.tally cimport count
from rdnscache.upstream.defence cimport Cookies, LetterCase
from rdnscache.upstream.estimate cimport Estimate
from rdnscache.upstream.health cimport Health

cdef double _EARLY, _MOST_EARLY, _NONE
cdef int _QUERIES, _SECONDS


cdef class Server:
    cdef readonly object endpoint
    cdef readonly str label
    cdef readonly str host
    cdef readonly long weight
    cdef readonly object transport
    cdef readonly object udp
    cdef readonly object tcp
    cdef readonly Health health
    cdef readonly Health tcp_health
    cdef readonly Estimate estimate
    cdef readonly LetterCase letter_case
    cdef readonly Cookies cookies
    cdef public long waiting
    cdef public long overdue
    cdef readonly long most_waiting
    cdef double _quiet_since
    cdef double _spare
    cdef double _quickest
    cdef long _replies
    cdef double _least
    cdef double _least_before
    cdef double _period
    cdef int _block
    cdef long _openings
    cdef object _counters
    cdef public object budget
    cdef object _log
    cdef object _log_tcp

    cpdef int rank(self, double now) except -1
    @cython.locals(quiet=double)
    cpdef bint in_doubt(self, double now) except -1
    cpdef object asked(self, double now)
    cpdef bint may_hurry(self, double now, bint last)
    cpdef object hurried(self)
    cpdef object useless(self)
    cpdef object missed(self, int near_miss, bytes key, double now)
    cpdef object answered(self, double seconds)
    @cython.locals(quickest=double)
    cpdef double delay(self, double now) except? -2
    cpdef object heard(self, double now)
    cpdef object failed(self, double sent, double now, object failure, bint alone)
    cpdef object heard_over_tcp(self, double now)
    cpdef object failed_over_tcp(self, double sent, double now, object failure)
