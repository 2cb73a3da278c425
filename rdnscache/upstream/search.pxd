cimport cython

from rdnscache cimport clock
from rdnscache.dns.wire cimport Reply
from rdnscache.upstream.alarms cimport Alarms
from rdnscache.upstream.attempt cimport Attempt, Owner
from rdnscache.upstream.server cimport Server


cdef double _NEVER


cdef class Search(Owner):
    cdef readonly bytes key
    cdef readonly object thrift
    cdef readonly double started
    cdef public double deadline
    cdef double _fair
    cdef readonly list left
    cdef readonly Py_ssize_t asked
    cdef readonly int rounds
    cdef public double next_at
    cdef public bint put_off
    cdef readonly bint failed
    cdef readonly bint failed_at_once
    cdef readonly list open
    cdef list _told
    cdef object _sleeper
    cdef Alarms _alarms
    cdef double _wakes_at
    cdef readonly double late
    cdef bint _forgiven
    cdef readonly bint troubled
    cdef public bint answered
    cdef int _ede
    cdef Py_ssize_t _servers
    cdef dict _failures
    cdef tuple _met
    cdef dict _tries
    cdef tuple _retried
    cdef bint _said

    cpdef object tell(self, Attempt attempt)
    cpdef object wake(self)
    cdef object _rouse(self)
    cpdef object alarm(self, double now)
    cpdef object wake_later(self)
    cpdef Attempt wait(self)
    @cython.locals(until=double, attempt=Attempt)
    cpdef double _until(self)
    @cython.locals(attempt=Attempt)
    cpdef object _sleep(self, double until)
    cpdef Server next_server(self)
    cpdef bint ends_round(self)
    @cython.locals(attempt=Attempt)
    cpdef Attempt attempt_at(self, Server server)
    cpdef object begin_round(self, list left, double at)
    cpdef bint pass_over(self, Server server, double now)
    cpdef object use(self, object thrift)
    cpdef object spent(self, Server server)
    cpdef object sent(self, Server server)
    cpdef object met(self, Server server)
    cpdef object hear(self, Reply reply)
    cpdef object refused(self, Server server, Reply reply)
    cpdef object note(self, Server server, object failure)
