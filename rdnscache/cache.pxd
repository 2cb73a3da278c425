cimport cython
from rdnscache.dns.entry cimport Entry
from rdnscache.dns.question cimport wider_key

cdef class Cache:
    cdef readonly dict _entries
    cdef readonly Entry _hand
    cdef readonly Entry _newest
    cdef readonly Entry _oldest
    cdef public long evictions
    cdef public long max_bytes
    cdef public long max_entries
    cdef public long size
    @cython.locals(entry=Entry)
    cpdef object get(self, bytes key, double now)
    @cython.locals(own=Entry, name=Entry)
    cpdef Entry kept(self, bytes key)
    @cython.locals(known=Entry, size=long)
    cpdef object put(self, Entry entry, double now)
    cpdef object learn(self, bytes key, Entry entry, double now)
    @cython.locals(following=Entry)
    cpdef list after(self, Entry entry, Py_ssize_t count)
    @cython.locals(aside=Cache)
    cpdef Cache set_aside(self)
    @cython.locals(entry=Entry)
    cdef object _evict(self, double now)
    cdef object _remove(self, Entry entry)

cdef long _cost(Entry entry)
