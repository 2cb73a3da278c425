"""What is put together for Redis octet by octet: commands, and keys; see packing.py."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy

from rdnscache.dns.names import name_text

cdef enum:
    #: Small numbers whose text is kept; octets that the text of a name may have, its four-octet escapes included.
    MANY = 2048
    ROOM = 1100

cdef list _TEXTS = [b"%d" % number for number in range(MANY)]
cdef uint8_t[256] _SHOWN
cdef bytes _PLAIN = b"abcdefghijklmnopqrstuvwxyz0123456789_-"


cdef void _fill_table():
    cdef int octet
    for octet in range(256):
        _SHOWN[octet] = <uint8_t> octet if octet in _PLAIN else <uint8_t> (octet + 32) if 65 <= octet <= 90 else 0


_fill_table()


cpdef bytes pack(object command):
    cdef list words = list(command)
    cdef Py_ssize_t count = len(words), index, size, total = 3 + _digits(len(words))
    cdef uint8_t* at
    cdef bytes data
    for index in range(count):
        value = words[index]
        if not isinstance(value, bytes):
            words[index] = value = _text(value)
        size = len(<bytes> value)
        total += 5 + _digits(size) + size
    packed = PyBytes_FromStringAndSize(NULL, total)
    at = <uint8_t*> PyBytes_AS_STRING(packed)
    at = _announce(at, c"*", count)
    for index in range(count):
        data = words[index]
        size = len(data)
        at = _announce(at, c"$", size)
        memcpy(at, PyBytes_AS_STRING(data), size)
        at[size] = c"\r"
        at[size + 1] = c"\n"
        at += size + 2
    return packed


cdef bytes _text(object value):
    """A word that is no octets yet."""
    if isinstance(value, str):
        return (<str> value).encode()
    return _TEXTS[value] if 0 <= value < MANY else b"%d" % value


cdef inline int _digits(Py_ssize_t number) noexcept:
    cdef int count = 1
    while number >= 10:
        number //= 10
        count += 1
    return count


cdef inline uint8_t* _announce(uint8_t* at, char kind, Py_ssize_t number) noexcept:
    """Write how much follows; returns where."""
    cdef int digits = _digits(number), index
    at[0] = kind
    for index in range(digits, 0, -1):
        at[index] = <uint8_t> (c"0" + number % 10)
        number //= 10
    at[digits + 1] = c"\r"
    at[digits + 2] = c"\n"
    return at + digits + 3


cpdef bytes spell(bytes head, bytes key, bytes tail):
    cdef uint8_t[ROOM] text
    cdef Py_ssize_t length = len(key), before = len(head), behind = len(tail), position = 0, size, index
    cdef Py_ssize_t used = 0
    cdef const uint8_t* octets = <const uint8_t*> PyBytes_AS_STRING(key)
    cdef uint8_t* at
    cdef uint8_t octet
    while position < length and octets[position]:
        size = octets[position]
        if size > 63 or position + size + 1 > 254 or position + size + 1 >= length:
            name_text(key)  # it says what is wrong
            raise ValueError("not a name")
        for index in range(position + 1, position + 1 + size):
            octet = octets[index]
            if _SHOWN[octet]:
                text[used] = _SHOWN[octet]
                used += 1
            else:
                text[used] = c"\\"
                text[used + 1] = c"0" + octet // 100
                text[used + 2] = c"0" + octet // 10 % 10
                text[used + 3] = c"0" + octet % 10
                used += 4
        text[used] = c"."
        used += 1
        position += size + 1
    if position >= length:
        raise IndexError(position)
    if used == 0:
        text[0] = c"."
        used = 1
    spelled = PyBytes_FromStringAndSize(NULL, before + used + behind)
    at = <uint8_t*> PyBytes_AS_STRING(spelled)
    memcpy(at, PyBytes_AS_STRING(head), before)
    memcpy(at + before, text, used)
    memcpy(at + before + used, PyBytes_AS_STRING(tail), behind)
    return spelled


cpdef bytes widen(bytes entry, bytes word):
    cdef Py_ssize_t length = len(entry), size = len(word), brace = length - 2, more, index
    cdef const uint8_t* octets = <const uint8_t*> PyBytes_AS_STRING(entry)
    cdef uint8_t* at
    while brace >= 0 and not (octets[brace] == c"}" and octets[brace + 1] == c":"):
        brace -= 1
    for index in range(length - 5, brace, -1):
        if memcmp(octets + index, b":ecs=", 5) == 0:
            return entry[:index]
    if brace < 0:
        raise ValueError("not an entry's key")
    brace += 2
    more = brace
    while more < length and octets[more] != c":":
        more += 1
    wide = PyBytes_FromStringAndSize(NULL, brace + size + length - more)
    at = <uint8_t*> PyBytes_AS_STRING(wide)
    memcpy(at, octets, brace)
    memcpy(at + brace, PyBytes_AS_STRING(word), size)
    memcpy(at + brace + size, octets + more, length - more)
    return wide
