cimport cython

from rdnscache cimport clock


cdef double _TICK
cdef int _SCANNED


cdef class Alarms:
    cdef dict _due
    cdef readonly object hub
    cdef object _timer
    cdef long long _first

    @cython.locals(tick="long long", due=set)
    cpdef object set(self, object sleeper, double moment)
    @cython.locals(due=set)
    cpdef object unset(self, object sleeper, double moment)
    cdef object _start(self, long long tick)
    @cython.locals(now=double)
    cpdef object _ring(self)
    @cython.locals(first="long long", tick="long long")
    cdef list _over(self, long long last)
    @cython.locals(each="long long")
    cdef long long _next(self, long long tick) except -1
