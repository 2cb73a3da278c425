from rdnscache.dns.policy cimport Limits
from rdnscache.upstream.fitness cimport Fitness


cdef class Route:
    cdef readonly object upstreams
    cdef readonly Limits limits
    cdef readonly double patience
    cdef readonly Fitness fitness
    cdef readonly bytes name
    cdef readonly str zone
    cdef readonly object exists
    cdef readonly str mark
