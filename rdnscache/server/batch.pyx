"""Batches of datagrams on Linux: one system call reads up to 64, one sends the replies. batch.py documents it."""

import socket

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, EINVAL, EIO, EOPNOTSUPP, errno
from libc.stdint cimport uint8_t, uint16_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from rdnscache.server.linux cimport (
    AF_INET,
    CMSG_DATA,
    CMSG_FIRSTHDR,
    CMSG_LEN,
    CMSG_SPACE,
    IP_PKTINFO,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    MSG_DONTWAIT,
    SOL_UDP,
    UDP_SEGMENT,
    cmsghdr,
    in6_pktinfo,
    in_pktinfo,
    mmsghdr,
    msghdr,
    recvmmsg,
    sendmmsg,
    sockaddr_in,
    sockaddr_in6,
)

BATCH, QUERY_SIZE = _BATCH, _QUERY_SIZE


cdef class Batch:
    """Up to 64 datagrams from one socket, and the replies to them; batch.py documents the methods."""

    def __cinit__(self):
        self._space = <Space*> calloc(1, sizeof(Space))
        if self._space is NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._space)

    def __init__(self, sock, bint wildcard, bint segments=True):
        self._sock = sock
        self._fd = sock.fileno()
        self._wildcard = wildcard
        self._replies = []
        if wildcard and sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif wildcard:
            sock.setsockopt(IPPROTO_IP, IP_PKTINFO, 1)
        self._used = _BATCH
        self._segments = segments and _can_segment(sock)

    cdef void _offer(self, int index) noexcept:
        """Prepare a slot for recvmmsg."""
        cdef Space* space = self._space
        cdef Slot* slot = &space.slots[index]
        cdef msghdr* header = &space.received[index].msg_hdr
        space.incoming[index].iov_base = slot.data
        space.incoming[index].iov_len = _QUERY_SIZE
        header.msg_name = &slot.name
        header.msg_namelen = sizeof(sockaddr_in6)
        header.msg_iov = &space.incoming[index]
        header.msg_iovlen = 1
        header.msg_control = slot.control if self._wildcard else NULL
        header.msg_controllen = _CONTROL_WORDS * sizeof(size_t) if self._wildcard else 0

    cpdef int receive(self) except -1:
        cdef Space* space = self._space
        cdef int index, count
        self._count = 0
        for index in range(self._used):
            self._offer(index)
        count = recvmmsg(self._fd, space.received, _BATCH, MSG_DONTWAIT, NULL)
        self._used = max(count, 0)
        for index in range(count):
            if space.slots[index].name.sin6_port != 0:
                space.order[self._count] = index
                self._count += 1
        return self._count

    cdef int _slot(self, int index) except -1:
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._space.order[index]

    cpdef bytes data(self, int index):
        cdef int slot = self._slot(index)
        return PyBytes_FromStringAndSize(<char*> self._space.slots[slot].data, self._space.received[slot].msg_len)

    cpdef object client(self, int index):
        cdef msghdr* header = &self._space.received[self._slot(index)].msg_hdr
        _turn_round(header)
        return (
            PyBytes_FromStringAndSize(<char*> header.msg_name, header.msg_namelen),
            PyBytes_FromStringAndSize(<char*> header.msg_control, header.msg_controllen),
        )

    cpdef bytes source(self, int index):
        cdef sockaddr_in6* name = &self._space.slots[self._slot(index)].name
        if name.sin6_family == AF_INET:
            return PyBytes_FromStringAndSize(<char*> &(<sockaddr_in*> name).sin_addr, 4)
        return PyBytes_FromStringAndSize(<char*> &name.sin6_addr, 16)

    cpdef object reply(self, int index, bytes data):
        cdef int slot = self._slot(index)
        cdef msghdr* header = &self._space.received[slot].msg_hdr
        _turn_round(header)
        self._queue(header, None, data)

    cpdef object reply_to(self, tuple client, bytes data):
        cdef bytes name = client[0]
        cdef bytes control = client[1]
        cdef msghdr header
        header.msg_name = PyBytes_AS_STRING(name)
        header.msg_namelen = <unsigned int> PyBytes_GET_SIZE(name)
        header.msg_control = PyBytes_AS_STRING(control)
        header.msg_controllen = PyBytes_GET_SIZE(control)
        self._queue(&header, client, data)

    cdef object _queue(self, msghdr* to, object client, bytes data):
        """Queue a reply. The list keeps the octets alive until the kernel has read them."""
        cdef Space* space = self._space
        cdef Py_ssize_t index = len(self._replies)
        cdef msghdr* header
        self._replies.append((client, data))
        space.outgoing[index].iov_base = PyBytes_AS_STRING(data)
        space.outgoing[index].iov_len = PyBytes_GET_SIZE(data)
        header = &space.queued[index].msg_hdr
        header[0] = to[0]
        header.msg_iov = &space.outgoing[index]
        header.msg_iovlen = 1
        header.msg_flags = 0
        if index + 1 == _BATCH:
            self.send_queued()

    cpdef object send_queued(self):
        """Send the queued replies. One that the kernel refuses is lost; when its buffer is full, all others are too."""
        cdef int count = <int> len(self._replies)
        if self._segments and count > 1:
            self._send(self._space.together, self._gather(count))
        else:
            self._send(self._space.queued, count)
        self._replies.clear()

    cdef object _send(self, mmsghdr* messages, int count):
        cdef int done = 0, sent
        while done < count:
            sent = sendmmsg(self._fd, messages + done, count - done, MSG_DONTWAIT)
            if sent < 0 and errno == EAGAIN:
                break
            if sent < 0 and errno == EINTR:
                continue
            if sent < 0 and errno in (EIO, EINVAL, EOPNOTSUPP) and messages[done].msg_hdr.msg_iovlen > 1:
                self._segments = False  # this device cannot do it; never try again
                return self._send(self._space.queued, self._apart(done, count))
            done += max(sent, 1)

    cdef int _gather(self, int count) noexcept:
        """Put replies of equal size to one client, from one address, into one message; returns how many there are."""
        cdef Space* space = self._space
        cdef int index, other, start, groups = 0, filled = 0
        cdef size_t size
        cdef msghdr* header
        for index in range(count):
            space.taken[index] = False
        for index in range(count):
            if space.taken[index]:
                continue
            start = filled
            size = space.outgoing[index].iov_len
            space.gathered[filled] = space.outgoing[index]
            filled += 1
            for other in range(index + 1, count if 0 < size <= _SEGMENT_SIZE else 0):
                if space.outgoing[other].iov_len != size or space.taken[other]:
                    continue
                if (filled - start + 1) * size > _MOST_TOGETHER:
                    break
                if _same(&space.queued[index].msg_hdr, &space.queued[other].msg_hdr):
                    space.taken[other] = True
                    space.gathered[filled] = space.outgoing[other]
                    filled += 1
            header = &space.together[groups].msg_hdr
            header[0] = space.queued[index].msg_hdr
            header.msg_iov = &space.gathered[start]
            header.msg_iovlen = filled - start
            if filled - start > 1:
                self._segment(groups, size)
            groups += 1
        return groups

    cdef void _segment(self, int group, size_t size) noexcept:
        """Append the control message that makes the kernel split a message into datagrams of this size."""
        cdef msghdr* header = &self._space.together[group].msg_hdr
        cdef uint8_t* control = <uint8_t*> self._space.controls[group]
        cdef size_t before = header.msg_controllen
        cdef cmsghdr* told = <cmsghdr*> (control + before)
        if before:
            memcpy(control, header.msg_control, before)
        told.cmsg_level = SOL_UDP
        told.cmsg_type = UDP_SEGMENT
        told.cmsg_len = CMSG_LEN(sizeof(uint16_t))
        (<uint16_t*> CMSG_DATA(told))[0] = <uint16_t> size
        header.msg_control = control
        header.msg_controllen = before + CMSG_SPACE(sizeof(uint16_t))

    cdef int _apart(self, int first, int count) noexcept:
        """Split the messages from `first` on into single datagrams again; returns their number."""
        cdef Space* space = self._space
        cdef int group, single = 0
        cdef size_t part
        cdef msghdr* header
        for group in range(first, count):
            header = &space.together[group].msg_hdr
            if header.msg_iovlen > 1:
                header.msg_controllen -= CMSG_SPACE(sizeof(uint16_t))
            for part in range(header.msg_iovlen):
                space.queued[single].msg_hdr = header[0]
                space.queued[single].msg_hdr.msg_iov = header.msg_iov + part
                space.queued[single].msg_hdr.msg_iovlen = 1
                single += 1
        return single


def _can_segment(sock):
    """Whether the kernel can split a message into datagrams (Linux 4.18 and later)."""
    try:
        sock.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
    except OSError:
        return False
    return True


cdef bint _same(msghdr* one, msghdr* other) noexcept:
    """Whether two replies go to the same client from the same address. Control messages are aligned, or absent."""
    return (
        one.msg_namelen == other.msg_namelen
        and one.msg_controllen == other.msg_controllen
        and memcmp(one.msg_name, other.msg_name, one.msg_namelen) == 0
        and (one.msg_controllen == 0 or memcmp(one.msg_control, other.msg_control, one.msg_controllen) == 0)
    )


cdef void _turn_round(msghdr* header) noexcept:
    """Turn a datagram's control message into one that sends the reply from the address that was asked.

    The route decides the interface.
    """
    cdef cmsghdr* control = CMSG_FIRSTHDR(header) if header.msg_control is not NULL else NULL
    cdef in6_pktinfo* v6
    cdef in_pktinfo* v4
    if control is NULL:
        header.msg_controllen = 0
    elif control.cmsg_level == IPPROTO_IP and control.cmsg_type == IP_PKTINFO:
        v4 = <in_pktinfo*> CMSG_DATA(control)
        v4.ipi_ifindex = 0
    elif control.cmsg_level == IPPROTO_IPV6 and control.cmsg_type == IPV6_PKTINFO:
        v6 = <in6_pktinfo*> CMSG_DATA(control)
        if v6.ipi6_addr.s6_addr[0] != 0xFE or v6.ipi6_addr.s6_addr[1] & 0xC0 != 0x80:  # not link-local
            v6.ipi6_ifindex = 0
    else:
        header.msg_controllen = 0
