cdef class Servers:
    cdef public object counters

    cpdef bint usable(self) except -1
    cpdef object ask(self, object late, tuple commands)
