from libc.stdint cimport uint8_t

from rdnscache.server.linux cimport iovec, mmsghdr, msghdr, sockaddr_in6

cdef enum:
    _BATCH = 64
    _QUERY_SIZE = 4096
    _CONTROL_WORDS = 8


cdef struct Slot:
    # One datagram that came, who sent it, and where to (aligned for cmsghdr).
    size_t control[_CONTROL_WORDS]
    sockaddr_in6 name
    uint8_t data[_QUERY_SIZE]


cdef struct Space:
    # What the kernel fills in and reads from.
    mmsghdr received[_BATCH]
    mmsghdr queued[_BATCH]
    iovec incoming[_BATCH]
    iovec outgoing[_BATCH]
    Slot slots[_BATCH]
    int order[_BATCH]


cdef class Batch:
    cdef object _sock
    cdef int _fd
    cdef bint _wildcard
    cdef int _used
    cdef int _count
    cdef list _replies
    cdef Space* _space

    cpdef int receive(self) except -1
    cpdef bytes data(self, int index)
    cpdef object client(self, int index)
    cpdef bytes source(self, int index)
    cpdef object reply(self, int index, bytes data)
    cpdef object flush(self)
    cpdef object reply_to(self, tuple client, bytes data)
    cdef int _slot(self, int index) except -1
    cdef void _offer(self, int index) noexcept
    cdef object _queue(self, msghdr* to, object client, bytes data)
