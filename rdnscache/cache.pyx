"""L1 with each entry in one block of memory; cache.py documents it.

Entries are found by linear hashing (Litwin, VLDB 1980): each insertion or removal splits or merges one bucket at most,
so that growing never blocks the hub. Sizes are checked when an entry is packed, so that hits need not check them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int16_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from rdnscache.dns.compose cimport compose, opt_record
from rdnscache.dns.entry cimport Entry
from rdnscache.dns.question cimport wider_key
from rdnscache.dns.wire cimport Query

from rdnscache.dns.entry import FAR
from rdnscache.dns.entry import RENEWABLE_TTL as _RENEWABLE_TTL
from rdnscache.dns.policy import answers

_OVERHEAD = 104
PATIENCE = 200
LOOKS, TESTS = 2000, 100
SWEEPS = 100

cdef enum:
    _PATIENCE = 200
    _LOOKS = 2000
    _TESTS = 100
    # Maximum number of simultaneous sweeps: colours wrap around and are compared by their distance.
    _SWEEPS = 100
    # Buckets of a segment, a power of two; the initial number of segment pointers.
    _SEGMENT = 512
    _ROOM = 8
    # Maximum number of origin texts kept for sharing.
    _ORIGINS = 1000
    # Flags: visited since the hand passed; AD; a prefetch brings a full TTL; is being prefetched, or never is;
    # hit once; hit more often.
    _VISITED = 1
    _AUTHENTIC = 2
    _RENEWS = 4
    _NOT_AGAIN = 8
    _HIT = 16
    _HITS = 32

cdef double _FAR = FAR
cdef int _RENEWABLE = _RENEWABLE_TTL
cdef Py_ssize_t _HEAD = sizeof(Cell) - 1


cdef class Cache:
    def __cinit__(self, *_, **__):
        self._buckets, self._mask, self._room = _SEGMENT, _SEGMENT - 1, _ROOM
        self._segments = <Cell***> PyMem_Malloc(_ROOM * sizeof(void*))
        if self._segments == NULL:
            raise MemoryError
        self._segments[0] = _segment()
        if self._segments[0] == NULL:
            PyMem_Free(self._segments)
            self._segments = NULL
            raise MemoryError

    def __init__(self, max_entries, max_bytes, overhead=_OVERHEAD):
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.overhead = overhead
        self._sweeps = []
        self._origins = {}

    def __dealloc__(self):
        cdef Cell* cell = self._oldest
        cdef Cell* after
        cdef size_t number
        while cell != NULL:
            after = cell.newer
            _free(cell)
            cell = after
        if self._segments != NULL:
            for number in range(0, self._buckets, _SEGMENT):
                PyMem_Free(self._segments[number // _SEGMENT])
            PyMem_Free(self._segments)

    def __len__(self):
        return self._count

    cpdef object hand(self):
        return _key(self._hand) if self._hand != NULL else None

    cpdef bytes hit(self, Query query, double now, bint rotate):
        cdef Cell* cell = self._current(query.key, now)
        cdef bytes opt, data
        cdef Py_ssize_t room
        cdef int age, flags
        if cell == NULL:
            return None
        if cell.action or now >= _renew_at(cell):
            return b""
        _visit(cell)
        data = query.data
        age = <int> (now - cell.stored)
        if query.echo or age >= cell.ttl or (rotate and cell.ancount > 1):
            return compose(query, _entry(cell), now, rotate)
        opt = opt_record(query, cell.ede) if query.edns else b""
        room = query.limit - query.end - len(opt)
        if cell.tail_size > room:
            return compose(query, _entry(cell), now, rotate)
        query.rcode = cell.rcode
        flags = 0x8080 | (data[2] & 0x01) << 8 | data[3] & 0x10 | cell.rcode
        if cell.flags & _AUTHENTIC and (query.do or data[3] & 0x20):
            flags |= 0x20
        return _spliced(cell, data, query.end, flags, max(age, 0), opt)

    cpdef Entry get(self, bytes key, double now):
        cdef Cell* cell = self._current(key, now)
        if cell == NULL:
            return None
        _visit(cell)
        return _entry(cell)

    cpdef Entry peek(self, bytes key):
        cdef Cell* cell = self._find(key)
        return _entry(cell) if cell != NULL else None

    cpdef Entry kept(self, bytes key):
        cdef Cell* own = self._find(key)
        cdef Cell* name = self._find(wider_key(key))
        if name == NULL or (own != NULL and own.stored > name.stored):
            name = own
        return _entry(name) if name != NULL else None

    cpdef bint has(self, Entry entry) except -1:
        cdef Cell* cell = self._find(entry.key)
        return cell != NULL and cell.stored == entry.stored and <str> cell.origin == entry.origin

    cpdef object put(self, Entry entry, double now):
        cdef Cell* known = self._find(entry.key)
        cdef Cell* cell = self._packed(entry)
        cdef int patience = _PATIENCE
        cdef Py_ssize_t size
        if known != NULL:
            if cell != NULL:
                cell.flags |= known.flags & _VISITED
                if not known.flags & _RENEWS:
                    cell.flags &= ~_RENEWS
            self._remove(known)
        if cell == NULL:
            return
        if not cell.flags & _RENEWS:
            cell.flags |= _NOT_AGAIN
        size = self.overhead + _size(cell)
        if size > self.max_bytes:
            _free(cell)
            return
        while self._count >= self.max_entries or self.size + size > self.max_bytes:
            patience = self._evict(now, patience)
        self._add(cell)

    cpdef object learn(self, bytes key, Entry entry, double now):
        if entry.key != key:
            self.drop(key)
        elif answers(entry.rcode):
            self.drop(wider_key(key))
        self.put(entry, now)

    cpdef object hold(self, bytes key, double until):
        cdef Cell* cell = self._find(key)
        if cell != NULL:
            cell.held = <float> (until - cell.stored)

    cpdef object renewed(self, bytes key):
        cdef Cell* cell = self._find(key)
        if cell != NULL:
            cell.flags |= _NOT_AGAIN

    cpdef object drop(self, bytes key):
        cdef Cell* cell = self._find(key)
        if cell != NULL:
            self._remove(cell)

    def sweep(self, test, suffixes=()):
        return Sweep(self, test, suffixes)

    def set_aside(self):
        cdef Cache aside = Cache(self.max_entries, self.max_bytes, self.overhead)
        cdef Sweep sweep
        aside._segments, self._segments = self._segments, aside._segments
        aside._room, self._room = self._room, aside._room
        aside._buckets, self._buckets = self._buckets, aside._buckets
        aside._mask, self._mask = self._mask, aside._mask
        aside._colour = self._colour
        aside._count, self._count = self._count, 0
        aside.size, self.size = self.size, 0
        aside._oldest, aside._newest = self._oldest, self._newest
        self._oldest = self._newest = self._hand = NULL
        for sweep in self._sweeps:
            sweep._at = NULL
        self._sweeps.clear()
        return aside

    cpdef Entry oldest(self):
        return _entry(self._oldest) if self._oldest != NULL else None

    cpdef bint release(self, Py_ssize_t count) except -1:
        while count > 0 and self._oldest != NULL:
            self._remove(self._oldest)
            count -= 1
        return self._oldest != NULL

    cdef Cell* _find(self, bytes key) except? NULL:
        cdef uint32_t hashed = _hash(key)
        cdef Py_ssize_t size = len(key)
        cdef Cell* cell = self._bucket(hashed)[0]
        while cell != NULL:
            if cell.hash == hashed and cell.key_size == size and not memcmp(cell.octets, PyBytes_AS_STRING(key), size):
                if cell.colour != self._colour and self._keep_or_remove(cell) == 0:
                    return NULL
                return cell
            cell = cell.chain
        return NULL

    cdef int _keep_or_remove(self, Cell* cell) except -2:
        """1 if the entry is kept, 0 if a sweep has removed it, -1 if it is kept and needed no test."""
        cdef Sweep sweep
        cdef int stays = -1
        for sweep in list(self._sweeps):
            if <int16_t> (sweep._colour - cell.colour) <= 0 or (sweep._suffixes and not _ends(cell, sweep._suffixes)):
                continue
            if sweep._test(_entry(cell)):
                self._remove(cell)
                return 0
            stays = 1
        cell.colour = self._colour
        return stays

    cdef Cell* _current(self, bytes key, double now) except? NULL:
        cdef Cell* cell = self._find(key)
        if cell == NULL or (now >= cell.stored + cell.ttl and now >= cell.stored + cell.held):
            cell = self._find(wider_key(key))
            if cell == NULL or (now >= cell.stored + cell.ttl and now >= cell.stored + cell.held):
                return NULL
        return cell

    cdef Cell* _packed(self, Entry entry) except? NULL:
        """A new cell; NULL if the entry does not fit into one, which no entry of a DNS message does."""
        cdef bytes key = entry.key, offsets = entry.ttls, tail = entry.tail
        cdef str origin = self._shared(entry.origin)
        cdef Py_ssize_t size = len(tail), at = len(key), index
        cdef Cell* cell
        cdef uint8_t* octets
        if at > 0xFFFF or len(offsets) > 0xFFFF or size > 0xFFFF or not 0 <= entry.rcode <= 0xFFFF:
            return NULL
        if not (0 <= entry.essential <= size and 0 <= entry.additional <= size and 0 <= entry.action <= 0xFF):
            return NULL
        for index in range(0, len(offsets) - 1, 2):
            if ((<uint8_t> offsets[index]) << 8 | <uint8_t> offsets[index + 1]) + 4 > size:
                return NULL
        cell = <Cell*> PyMem_Malloc(_HEAD + at + len(offsets) + size)
        if cell == NULL:
            raise MemoryError
        memset(cell, 0, _HEAD)
        cell.hash = _hash(key)
        cell.stored, cell.held = entry.stored, <float> (entry.held_until - entry.stored)
        cell.ttl, cell.stale, cell.ede = entry.ttl, entry.stale, entry.ede
        cell.key_size, cell.offsets_size, cell.tail_size = at, len(offsets) & ~1, size
        cell.additional, cell.essential = entry.additional, entry.essential
        cell.ancount, cell.nscount, cell.arcount = entry.ancount, entry.nscount, entry.arcount
        cell.colour = self._colour
        cell.rcode, cell.action, cell.scope = entry.rcode, entry.action, entry.scope
        if entry.authentic:
            cell.flags |= _AUTHENTIC
        if entry.renews:
            cell.flags |= _RENEWS
        if entry.renew_at == _FAR:
            cell.flags |= _NOT_AGAIN
        memcpy(cell.octets, PyBytes_AS_STRING(key), at)
        memcpy(cell.octets + at, PyBytes_AS_STRING(offsets), cell.offsets_size)
        octets = cell.octets + at + cell.offsets_size
        memcpy(octets, PyBytes_AS_STRING(tail), size)
        if entry.aged:
            _age(octets, cell.octets + at, cell.offsets_size, -entry.aged)
        Py_INCREF(origin)
        cell.origin = <PyObject*> origin
        return cell

    def _shared(self, origin):
        """An equal text that is shared with other entries."""
        if len(self._origins) >= _ORIGINS:
            self._origins.clear()
        return self._origins.setdefault(origin, origin)

    cdef Cell** _bucket(self, uint32_t hash) noexcept:
        cdef size_t number = hash & self._mask
        if number >= self._buckets:
            number &= self._mask >> 1
        return &self._segments[number // _SEGMENT][number % _SEGMENT]

    cdef void _add(self, Cell* cell) noexcept:
        cdef Cell** bucket
        if <size_t> self._count >= self._buckets:
            self._split()
        bucket = self._bucket(cell.hash)
        cell.chain = bucket[0]
        bucket[0] = cell
        cell.older = self._newest
        if self._newest != NULL:
            self._newest.newer = cell
        self._newest = cell
        if self._oldest == NULL:
            self._oldest = cell
        self._count += 1
        self.size += self.overhead + _size(cell)

    cdef object _remove(self, Cell* cell):
        cdef Sweep sweep
        cdef Cell** link = self._bucket(cell.hash)
        if self._sweeps:
            for sweep in self._sweeps:
                if cell == sweep._at:
                    sweep._at = cell.newer if cell != sweep._last else NULL
                if cell == sweep._last:
                    sweep._last = cell.older
        while link[0] != cell:
            link = &link[0].chain
        link[0] = cell.chain
        if self._hand == cell:
            self._hand = cell.newer
        if cell.older != NULL:
            cell.older.newer = cell.newer
        else:
            self._oldest = cell.newer
        if cell.newer != NULL:
            cell.newer.older = cell.older
        else:
            self._newest = cell.older
        self._count -= 1
        self.size -= self.overhead + _size(cell)
        _free(cell)
        if <size_t> self._count * 2 < self._buckets and self._buckets > _SEGMENT:
            self._merge()

    cdef int _evict(self, double now, int patience) except -1:
        cdef Cell* cell = self._hand if self._hand != NULL else self._oldest
        while cell != NULL and patience > 0 and cell.flags & _VISITED and (
            now < cell.stored + cell.ttl + cell.stale
        ):
            cell.flags &= ~_VISITED
            patience -= 1
            cell = cell.newer if cell.newer != NULL else self._oldest
        if cell != NULL:
            self._hand = cell
            self._remove(cell)
            self.evictions += 1
        return patience

    cdef void _split(self) noexcept:
        """Add a bucket and move its share of an older bucket into it. Without memory for it nothing changes."""
        cdef size_t number = self._buckets, segment = number // _SEGMENT, mask = self._mask
        cdef Cell*** segments
        cdef Cell** link
        cdef Cell** there
        if segment >= self._room:
            segments = <Cell***> PyMem_Realloc(self._segments, 2 * self._room * sizeof(void*))
            if segments == NULL:
                return
            self._segments, self._room = segments, 2 * self._room
        if number % _SEGMENT == 0:
            self._segments[segment] = _segment()
            if self._segments[segment] == NULL:
                return
        if number > mask:
            mask = 2 * mask + 1
        link = &self._segments[(number & mask >> 1) // _SEGMENT][(number & mask >> 1) % _SEGMENT]
        there = &self._segments[segment][number % _SEGMENT]
        self._buckets, self._mask = number + 1, mask
        while link[0] != NULL:
            if link[0].hash & mask == number:
                there[0] = link[0]
                link[0] = link[0].chain
                there = &there[0].chain
            else:
                link = &link[0].chain
        there[0] = NULL

    cdef void _merge(self) noexcept:
        """Remove the last bucket; its entries return to the bucket it was split from."""
        cdef size_t number = self._buckets - 1, segment = number // _SEGMENT, buddy = number & self._mask >> 1
        cdef Cell** link = &self._segments[buddy // _SEGMENT][buddy % _SEGMENT]
        while link[0] != NULL:
            link = &link[0].chain
        link[0] = self._segments[segment][number % _SEGMENT]
        self._segments[segment][number % _SEGMENT] = NULL
        self._buckets = number
        if number <= (self._mask >> 1) + 1:
            self._mask >>= 1
        if number % _SEGMENT == 0:
            PyMem_Free(self._segments[segment])


cdef class Sweep:
    def __init__(self, Cache cache not None, test, suffixes):
        if len(cache._sweeps) >= _SWEEPS:
            raise OverflowError("too many sweeps at the same time")
        self._cache = cache
        self._test = test
        self._suffixes = tuple(suffixes)
        self._at, self._last = cache._oldest, cache._newest
        cache._colour += 1
        self._colour = cache._colour
        cache._sweeps.append(self)

    cpdef bint step(self, int looks=_LOOKS) except -1:
        cdef Cell* cell
        cdef int tests = _TESTS
        while self._at != NULL and looks > 0 and tests > 0:
            cell = self._at
            looks -= 1
            self._at = cell.newer if cell != self._last else NULL
            if cell.colour != self._cache._colour and self._cache._keep_or_remove(cell) >= 0:
                tests -= 1
        if self._at == NULL:
            self.close()
        return self._at != NULL

    cpdef object close(self):
        self._at = NULL
        if self in self._cache._sweeps:
            self._cache._sweeps.remove(self)


cdef bint _ends(Cell* cell, tuple suffixes) except -1:
    """Whether the name of an entry ends in one of the suffixes (wire form)."""
    cdef bytes suffix
    cdef Py_ssize_t end = cell.key_size - 5
    cdef uint8_t bits = cell.octets[cell.key_size - 1]
    if bits & 4:
        end -= 18
    if bits & 8:
        end -= 1
    elif bits & 16:
        end -= 8
    for suffix in suffixes:
        if len(suffix) <= end and not memcmp(cell.octets + end - len(suffix), PyBytes_AS_STRING(suffix), len(suffix)):
            return True
    return False


cdef inline uint32_t _hash(bytes key) except? 0xFFFFFFFF:
    return <uint32_t> hash(key)


cdef inline Py_ssize_t _size(Cell* cell) noexcept:
    return <Py_ssize_t> cell.key_size + cell.offsets_size + cell.tail_size


cdef Cell** _segment() noexcept:
    cdef Cell** segment = <Cell**> PyMem_Malloc(_SEGMENT * sizeof(void*))
    if segment != NULL:
        memset(segment, 0, _SEGMENT * sizeof(void*))
    return segment


cdef void _free(Cell* cell) noexcept:
    Py_DECREF(<object> cell.origin)
    PyMem_Free(cell)


cdef bytes _key(Cell* cell):
    return PyBytes_FromStringAndSize(<char*> cell.octets, cell.key_size)


cdef inline double _renew_at(Cell* cell) noexcept:
    if cell.flags & _NOT_AGAIN or cell.ttl < _RENEWABLE:
        return _FAR
    return cell.stored + 0.9 * cell.ttl


cdef inline void _visit(Cell* cell) noexcept:
    cell.flags |= _VISITED | (_HITS if cell.flags & _HIT else _HIT)


cdef Entry _entry(Cell* cell):
    """A copy of a cell as an Entry."""
    cdef Entry entry = Entry.__new__(Entry)
    cdef char* octets = <char*> cell.octets
    entry.key = PyBytes_FromStringAndSize(octets, cell.key_size)
    entry.ttls = PyBytes_FromStringAndSize(octets + cell.key_size, cell.offsets_size)
    entry.tail = PyBytes_FromStringAndSize(octets + cell.key_size + cell.offsets_size, cell.tail_size)
    entry.origin = <str> cell.origin
    entry.stored, entry.ttl, entry.stale = cell.stored, cell.ttl, cell.stale
    entry.held_until = cell.stored + cell.held
    entry.ede, entry.rcode, entry.action, entry.scope = cell.ede, cell.rcode, cell.action, cell.scope
    entry.additional, entry.essential = cell.additional, cell.essential
    entry.ancount, entry.nscount, entry.arcount = cell.ancount, cell.nscount, cell.arcount
    entry.authentic, entry.renews = cell.flags & _AUTHENTIC, cell.flags & _RENEWS
    entry.visited = cell.flags & _VISITED
    entry.hits = 2 if cell.flags & _HITS else 1 if cell.flags & _HIT else 0
    entry.renew_at = -_FAR if cell.action else _renew_at(cell)
    return entry


cdef bytes _spliced(Cell* cell, bytes data, Py_ssize_t end, int flags, int age, bytes opt):
    """A reply as from `splice_reply`, its TTLs reduced by `age` seconds."""
    cdef Py_ssize_t more = len(opt), size = cell.tail_size
    cdef uint8_t* target
    cdef uint8_t* offsets = cell.octets + cell.key_size
    cdef bytes reply
    if end < 12 or end > len(data):
        raise IndexError(end)
    reply = PyBytes_FromStringAndSize(NULL, end + size + more)
    target = <uint8_t*> PyBytes_AS_STRING(reply)
    memcpy(target, PyBytes_AS_STRING(data), end)
    _put(target + 2, flags)
    _put(target + 4, 1 if end > 12 else 0)
    _put(target + 6, cell.ancount)
    _put(target + 8, cell.nscount)
    _put(target + 10, cell.arcount + (1 if more else 0))
    memcpy(target + end, offsets + cell.offsets_size, size)
    if age:
        _age(target + end, offsets, cell.offsets_size, age)
    memcpy(target + end + size, PyBytes_AS_STRING(opt), more)
    return reply


cdef void _age(uint8_t* tail, uint8_t* offsets, Py_ssize_t size, int seconds) noexcept:
    """Subtract seconds from each TTL, down to 0; negative seconds are added."""
    cdef Py_ssize_t index
    cdef uint8_t* at
    cdef long long ttl
    for index in range(0, size, 2):
        at = tail + (offsets[index] << 8 | offsets[index + 1])
        ttl = (<long long> at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]) - seconds
        if ttl < 0:
            ttl = 0
        at[0] = <uint8_t> (ttl >> 24)
        at[1] = <uint8_t> (ttl >> 16)
        at[2] = <uint8_t> (ttl >> 8)
        at[3] = <uint8_t> ttl


cdef inline void _put(uint8_t* at, int number) noexcept:
    at[0] = <uint8_t> (number >> 8)
    at[1] = <uint8_t> number
