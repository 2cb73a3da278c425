cimport cython

from rdnscache.dns.entry cimport Entry
from rdnscache.dns.policy cimport holds_widely
from rdnscache.dns.question cimport subnet, wider_key
from rdnscache.dns.text cimport answer_text
from rdnscache.dns.wire cimport Reply
from rdnscache.store.claim_store cimport ClaimStore
from rdnscache.store.decoding cimport info_text
from rdnscache.store.interface cimport Claim


cdef class RedisClaim(Claim):
    cdef ClaimStore _store
    cdef bytes _name
    cdef tuple _keys
    cdef bytes _token
    cdef bytes _offered
    cdef double _claimed
    cdef int _followed
    cdef bint _slow
    cdef bint _late
    cdef bint _leads
    cdef long _flushes
    cdef tuple _held
    cdef bint _away
    cdef bint _unbelieved
    cdef bint _known
    cdef bint _odd
    cdef bint _wary
    cdef Entry _mail
    cdef object _switch

    cpdef Entry read(self, bint last=*)
    cpdef object acquire(self, int renewal=*)
    cpdef Entry wait(self, double seconds)
    cpdef object release(self)
    cpdef object break_off(self)
    cpdef object end(self)
    cpdef Entry _read(self, bytes key, bytes name, object late)
    cpdef Entry _entry_of(self, bytes key, bytes name, list replies)
    cdef Entry _believed(self, bytes key, bytes name, list fields, object left)
    cpdef object _send_fill(self, tuple told)
    @cython.locals(answer=bytes, info=bytes, lifetime=long, name=bytes, scope=int)
    cpdef object fill(
        self, bytes kind, Reply reply, long ttl, long stale, str source, str route, str why=*
    )
