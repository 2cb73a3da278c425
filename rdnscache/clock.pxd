cpdef double now() except -1
cpdef double monotonic() except -1
