cimport cython


cdef class Proxied:
    cdef public bytes source
    cdef public int source_port
    cdef public bytes destination
    cdef public int destination_port
    cdef public bint stream
    cdef public Py_ssize_t end

@cython.locals(length=Py_ssize_t, end=Py_ssize_t)
cpdef Py_ssize_t proxy_end(bytes data) except? -2

cdef int _addresses_size(int kind) except? -2

@cython.locals(end=Py_ssize_t, size=Py_ssize_t, ports=Py_ssize_t, proxied=Proxied)
cpdef object parse_proxy(bytes data)

@cython.locals(at=Py_ssize_t, start=Py_ssize_t)
cpdef bytes tls_name(bytes data, Py_ssize_t end)

cpdef bytes host_name(bytes text)
