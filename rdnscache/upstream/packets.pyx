"""Datagrams of connected sockets; see packets.py."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "<sys/socket.h>" nogil:
    int MSG_DONTWAIT
    Py_ssize_t recv(int fd, void* buffer, size_t size, int flags)
    Py_ssize_t send_ "send"(int fd, const void* data, size_t size, int flags)

cdef enum:
    _SIZE = 65535

#: One at a time is read, and copied before anything else can run.
cdef char _space[_SIZE]


cpdef bytes receive(int fd):
    cdef Py_ssize_t size = -1
    while size < 0:
        size = recv(fd, _space, _SIZE, MSG_DONTWAIT)
        if size < 0 and errno == EAGAIN:
            return None
        if size < 0 and errno != EINTR:
            PyErr_SetFromErrno(OSError)
    return PyBytes_FromStringAndSize(_space, size)


cpdef object send(int fd, bytes data):
    while send_(fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT) < 0:
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
