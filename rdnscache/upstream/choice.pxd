cimport cython

from rdnscache.upstream.estimate cimport Estimate
from rdnscache.upstream.server cimport Server


@cython.locals(known=double)
cpdef double _cost(Server server) except? -2

@cython.locals(estimate=Estimate)
cpdef double patience(Server server, object servers) except? -2
