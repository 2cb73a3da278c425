cdef class Servers:
    cdef public object counters

    cpdef bint usable(self) except -1
    cpdef object ask(self, object late, tuple commands)
    cpdef object send(self, object command, object done=*)


cdef class Later:
    cdef Servers _servers
    cdef object _script
    cdef object _done
    cdef tuple _arguments
