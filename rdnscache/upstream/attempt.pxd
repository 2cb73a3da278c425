cimport cython

from rdnscache.dns.policy cimport answers
from rdnscache.dns.spelling cimport restored
from rdnscache.dns.wire cimport Reply, build_query
from rdnscache.upstream.estimate cimport Estimate
from rdnscache.upstream.health cimport Health
from rdnscache.upstream.query cimport Query
from rdnscache.upstream.reading cimport about, read_reply
from rdnscache.upstream.server cimport Server


cdef class Owner:
    cpdef object tell(self, Attempt attempt)
    cpdef object wake(self)
    cpdef object wake_later(self)


cdef class Attempt(Query):
    cdef readonly Server server
    cdef public Owner owner
    cdef public object transport
    cdef public Health health
    cdef public double first_sent
    cdef public double sent
    cdef public bint overdue
    cdef public bint noted
    cdef public Reply reply
    cdef public object failure
    cdef public bint cut
    cdef public int near_miss
    cdef public bytes asked
    cdef public bint cookies
    cdef public bytes cookie
    cdef public bint trial
    cdef public bint second

    @cython.locals(server=Server, option=bytes)
    cpdef bytes datagram(self, bytes ident)
    cpdef bytes repetition(self, bytes data)
    @cython.locals(server=Server, reply=Reply, repeats=bint)
    cpdef bint take(self, bytes data) except -1
    @cython.locals(reply=Reply)
    cpdef object arrived(self, bytes data)
    cpdef object turn_to_tcp(self, double now, double due)
    cpdef object look(self)
    cpdef object send_again(self, double now)
    cpdef object judge(self, double now, bint alone)
    @cython.locals(server=Server, estimate=Estimate, seconds=double)
    cpdef object _answered(self, double now)
    cpdef object end(self)
