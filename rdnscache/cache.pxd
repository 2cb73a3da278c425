from cpython.object cimport PyObject
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t

from rdnscache.dns.entry cimport Entry
from rdnscache.dns.wire cimport Query


cdef packed struct Cell:
    # An entry. The octets after it are its key, the offsets of its TTLs, and its tail as it was stored.
    Cell* chain  # the next one in the bucket
    Cell* newer
    Cell* older
    PyObject* origin
    double stored
    uint32_t hash
    float held  # seconds after `stored`
    int32_t ttl
    int32_t stale
    int32_t ede
    uint16_t key_size
    uint16_t offsets_size
    uint16_t tail_size
    uint16_t additional
    uint16_t essential
    uint16_t ancount
    uint16_t nscount
    uint16_t arcount
    uint16_t rcode
    uint8_t action
    uint8_t scope
    uint8_t flags
    uint16_t colour
    uint8_t octets[1]


cdef class Cache:
    cdef public Py_ssize_t max_entries
    cdef public Py_ssize_t max_bytes
    cdef readonly Py_ssize_t overhead
    cdef public Py_ssize_t size
    cdef public Py_ssize_t evictions
    cdef Py_ssize_t _count
    # Buckets are in segments; the first `_buckets` buckets are in use, `_mask` is the next power of two minus one.
    cdef Cell*** _segments
    cdef size_t _room
    cdef size_t _buckets
    cdef size_t _mask
    cdef Cell* _newest
    cdef Cell* _oldest
    cdef Cell* _hand
    cdef list _sweeps
    cdef uint16_t _colour
    cdef dict _origins

    cpdef object hand(self)
    cpdef bytes hit(self, Query query, double now, bint rotate)
    cpdef Entry get(self, bytes key, double now)
    cpdef Entry peek(self, bytes key)
    cpdef Entry kept(self, bytes key)
    cpdef bint has(self, Entry entry) except -1
    cpdef object put(self, Entry entry, double now)
    cpdef object learn(self, bytes key, Entry entry, double now)
    cpdef object hold(self, bytes key, double until)
    cpdef object renewed(self, bytes key)
    cpdef object drop(self, bytes key)
    cpdef Entry oldest(self)
    cpdef bint release(self, Py_ssize_t count) except -1
    cdef Cell* _find(self, bytes key) except? NULL
    cdef int _keep_or_remove(self, Cell* cell) except -2
    cdef Cell* _current(self, bytes key, double now) except? NULL
    cdef Cell* _packed(self, Entry entry) except? NULL
    cdef Cell** _bucket(self, uint32_t hash) noexcept
    cdef void _add(self, Cell* cell) noexcept
    cdef object _remove(self, Cell* cell)
    cdef int _evict(self, double now, int patience) except -1
    cdef void _split(self) noexcept
    cdef void _merge(self) noexcept


cdef class Sweep:
    cdef Cache _cache
    cdef object _test
    cdef tuple _suffixes
    cdef uint16_t _colour
    cdef Cell* _at
    cdef Cell* _last

    cpdef bint step(self, int looks=*) except -1
    cpdef object close(self)
