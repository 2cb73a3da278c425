from libc.stdint cimport uint8_t

from rdnscache.server.linux cimport iovec, mmsghdr, msghdr, sockaddr_in6

cdef enum:
    _BATCH = 64
    _QUERY_SIZE = 4096
    _CONTROL_WORDS = 8
    # Maximum octets of replies that are sent as one message: of each, which has to fit any path, and of all together.
    _SEGMENT_SIZE = 1232
    _MOST_TOGETHER = 60000


cdef struct Slot:
    # One received datagram, its sender, and the address it was sent to (control, aligned for cmsghdr).
    size_t control[_CONTROL_WORDS]
    sockaddr_in6 name
    uint8_t data[_QUERY_SIZE]


cdef struct Space:
    # Memory that the kernel writes to and reads from.
    mmsghdr received[_BATCH]
    mmsghdr queued[_BATCH]
    iovec incoming[_BATCH]
    iovec outgoing[_BATCH]
    Slot slots[_BATCH]
    int order[_BATCH]
    # Messages of replies of equal size to one client, which the kernel splits into datagrams.
    mmsghdr together[_BATCH]
    iovec gathered[_BATCH]
    size_t controls[_BATCH][_CONTROL_WORDS + 4]
    bint taken[_BATCH]


cdef class Batch:
    cdef object _sock
    cdef int _fd
    cdef bint _wildcard
    cdef bint _segments
    cdef int _used
    cdef int _count
    cdef list _replies
    cdef Space* _space

    cpdef int receive(self) except -1
    cpdef bytes data(self, int index)
    cpdef object client(self, int index)
    cpdef bytes source(self, int index)
    cpdef object reply(self, int index, bytes data)
    cpdef object send_queued(self)
    cpdef object reply_to(self, tuple client, bytes data)
    cdef int _slot(self, int index) except -1
    cdef void _offer(self, int index) noexcept
    cdef int _gather(self, int count) noexcept
    cdef void _segment(self, int group, size_t size) noexcept
    cdef int _apart(self, int first, int count) noexcept
    cdef object _send(self, mmsghdr* messages, int count)
    cdef object _queue(self, msghdr* to, object client, bytes data)
