"""Functions that assemble messages and keys from octets, or cut octets out of them; splice.py documents them.

The bounds of every copy are checked.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy


cpdef bytes splice_key(bytes data, Py_ssize_t root, int variant):
    cdef Py_ssize_t size = root - 7, index
    cdef const uint8_t* source
    cdef uint8_t* target
    cdef uint8_t octet
    if root < 12 or root > len(data) - 5:
        raise IndexError(root)
    key = PyBytes_FromStringAndSize(NULL, size + 1)
    source = <const uint8_t*> PyBytes_AS_STRING(data) + 12
    target = <uint8_t*> PyBytes_AS_STRING(key)
    for index in range(root - 11):
        octet = source[index]
        target[index] = octet + 32 if 65 <= octet <= 90 else octet
    memcpy(target + root - 11, source + root - 11, 4)
    target[size] = <uint8_t> variant
    return key


cpdef bytes splice_view(bytes key, Py_ssize_t end, int number):
    cdef Py_ssize_t size = len(key)
    cdef const uint8_t* source
    cdef uint8_t* target
    if end < 1 or end > size - 5 or not 0 <= number <= 255:
        raise IndexError(end)
    marked = PyBytes_FromStringAndSize(NULL, size + 1)
    source = <const uint8_t*> PyBytes_AS_STRING(key)
    target = <uint8_t*> PyBytes_AS_STRING(marked)
    memcpy(target, source, end)
    target[end] = <uint8_t> number
    memcpy(target + end + 1, source + end, size - end)
    target[size] |= 8
    return marked


cpdef bytes splice_type(bytes key, int number):
    cdef Py_ssize_t size = len(key)
    cdef uint8_t* target
    if size < 5:
        raise IndexError(size)
    other = PyBytes_FromStringAndSize(PyBytes_AS_STRING(key), size)
    target = <uint8_t*> PyBytes_AS_STRING(other) + size - 5
    target[0] = <uint8_t> (number >> 8)
    target[1] = <uint8_t> number
    return other


cpdef bytes cut(bytes data, Py_ssize_t start, Py_ssize_t end):
    if start < 0 or end < start or end > len(data):
        raise IndexError(end)
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + start, end - start)


cpdef bytes whole(bytearray data):
    return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(data), len(data))


cpdef bint repeats(bytes data, Py_ssize_t end, bytes asked) except -1:
    cdef Py_ssize_t size = len(asked), index
    cdef const uint8_t* told
    cdef const uint8_t* mine = <const uint8_t*> PyBytes_AS_STRING(asked)
    cdef uint8_t octet
    if end < 17 or end > len(data):
        raise IndexError(end)
    if size != end - 12:
        return False
    told = <const uint8_t*> PyBytes_AS_STRING(data) + 12
    for index in range(size - 4):
        octet = told[index]
        if mine[index] != (octet + 32 if 65 <= octet <= 90 else octet):
            return False
    return memcmp(told + size - 4, mine + size - 4, 4) == 0


cpdef bytearray splice_stored(
    bytes wire, Py_ssize_t end, int flags, int ancount, int nscount, int arcount, bytes asked
):
    cdef Py_ssize_t size = len(asked), rest = len(wire) - end
    cdef uint8_t* target
    if end < 12 or rest < 0:
        raise IndexError(end)
    stored = PyByteArray_FromStringAndSize(NULL, 12 + size + rest)
    target = <uint8_t*> PyByteArray_AS_STRING(stored)
    _put(target, 0)
    _put(target + 2, flags)
    _put(target + 4, 1)
    _put(target + 6, ancount)
    _put(target + 8, nscount)
    _put(target + 10, arcount)
    memcpy(target + 12, PyBytes_AS_STRING(asked), size)
    memcpy(target + 12 + size, PyBytes_AS_STRING(wire) + end, rest)
    return stored


cpdef bytes splice_query(bytes ident, int flags, bytes asked, bytes opt):
    cdef Py_ssize_t size = len(asked), more = len(opt)
    cdef uint8_t* target
    if len(ident) != 2:
        raise IndexError(len(ident))
    query = PyBytes_FromStringAndSize(NULL, 12 + size + more)
    target = <uint8_t*> PyBytes_AS_STRING(query)
    memcpy(target, PyBytes_AS_STRING(ident), 2)
    _put(target + 2, flags)
    _put(target + 4, 1)
    _put(target + 6, 0)
    _put(target + 8, 0)
    _put(target + 10, 1 if more else 0)
    memcpy(target + 12, PyBytes_AS_STRING(asked), size)
    memcpy(target + 12 + size, PyBytes_AS_STRING(opt), more)
    return query


cpdef bytes splice_reply(
    bytes data, Py_ssize_t end, int flags, int ancount, int nscount, int arcount, bytes tail, Py_ssize_t size, bytes opt
):
    cdef Py_ssize_t more = len(opt)
    cdef uint8_t* target
    if end < 12 or end > len(data) or size < 0 or size > len(tail):
        raise IndexError(end)
    reply = PyBytes_FromStringAndSize(NULL, end + size + more)
    target = <uint8_t*> PyBytes_AS_STRING(reply)
    memcpy(target, PyBytes_AS_STRING(data), end)
    _put(target + 2, flags)
    _put(target + 4, 1 if end > 12 else 0)
    _put(target + 6, ancount)
    _put(target + 8, nscount)
    _put(target + 10, arcount)
    memcpy(target + end, PyBytes_AS_STRING(tail), size)
    memcpy(target + end + size, PyBytes_AS_STRING(opt), more)
    return reply


cpdef bytes aged_tail(bytes tail, bytes ttls, long seconds, long fixed):
    cdef Py_ssize_t size = len(tail), index, at
    cdef const uint8_t* places = <const uint8_t*> PyBytes_AS_STRING(ttls)
    cdef const uint8_t* told
    cdef uint8_t* octet
    cdef long ttl
    out = PyBytes_FromStringAndSize(PyBytes_AS_STRING(tail), size)
    if len(ttls) % 2:
        raise IndexError(len(ttls))
    for index in range(0, len(ttls), 2):
        at = places[index] << 8 | places[index + 1]
        if at + 4 > size:
            raise IndexError(at)
        octet = <uint8_t*> PyBytes_AS_STRING(out) + at
        ttl = fixed
        if fixed == 0:
            told = <const uint8_t*> PyBytes_AS_STRING(tail) + at
            ttl = (<long> told[0] << 24 | <long> told[1] << 16 | <long> told[2] << 8 | told[3]) - seconds
            ttl = ttl if ttl > 0 else 0
        _put(octet, <int> (ttl >> 16))
        _put(octet + 2, <int> (ttl & 0xFFFF))
    return out


cpdef bytes rebased(bytes ttls, Py_ssize_t end):
    cdef Py_ssize_t index
    cdef const uint8_t* places = <const uint8_t*> PyBytes_AS_STRING(ttls)
    if len(ttls) % 2:
        raise IndexError(len(ttls))
    out = PyBytes_FromStringAndSize(NULL, len(ttls))
    for index in range(0, len(ttls), 2):
        _put(<uint8_t*> PyBytes_AS_STRING(out) + index, <int> ((places[index] << 8 | places[index + 1]) - end))
    return out


cdef inline void _put(uint8_t* at, int number) noexcept:
    at[0] = <uint8_t> (number >> 8)
    at[1] = <uint8_t> number
