cimport cython

cdef int _SLACK
cdef int _WEIGHT_OF_PAIR
cdef dict _REVERSE
cdef frozenset _SECOND_LEVEL

@cython.locals(end=Py_ssize_t, labels=int, start=Py_ssize_t, kept=int)
cpdef bytes zone_of(bytes key)

@cython.locals(at=Py_ssize_t)
cdef Py_ssize_t _skip(bytes key, int labels) except -1


cdef class Holder:
    cdef public bint firm
    cdef public tuple shares


cdef class Share:
    cdef dict _table
    cdef bytes _client
    cdef bytes _zone
    cdef public int weight
    cdef public int count
    cdef object _members
    cdef object _loose

    cpdef bint means(self, bytes client, bytes zone) except -1
    cpdef bint belongs_to(self, bytes client) except -1
    cdef object add(self)
    cdef object enter(self, Holder holder)
    cdef object remove(self)
    cdef object _key(self)
    cpdef Holder oldest(self, bint firm)


cdef class Shares:
    cdef int _limit
    cdef dict _clients
    cdef dict _zones
    cdef dict _pairs
    cdef Share _all
    cdef list _greedy

    @cython.locals(share=Share)
    cpdef object add(self, Holder holder, bytes client, bytes zone)
    @cython.locals(share=Share)
    cpdef object enter(self, Holder holder)
    @cython.locals(share=Share)
    cpdef object remove(self, Holder holder)
    cpdef Holder oldest(self, bint firm)
    @cython.locals(share=Share)
    cpdef Holder oldest_of(self, bytes client, bint firm)
    @cython.locals(share=Share, found=Share)
    cpdef Share greediest(self)


cdef class Line:
    cdef dict _of
    cdef object _new
    cdef object _old
    cdef Py_ssize_t _count

    cpdef object push(self, Holder holder, bytes client)
    cpdef Holder first(self)
    @cython.locals(client=bytes, holder=Holder)
    cpdef Holder pop(self)

cdef Share _share(dict table, object key, bytes client, bytes zone)
