cimport cython

cdef bytes _SHOWN
cdef list _ESCAPED
cdef dict _TYPES, _CLASSES

@cython.locals(out=bytearray)
cpdef str label_text(bytes label)

@cython.locals(index=Py_ssize_t)
cdef object _spell(bytearray out, bytes wire, Py_ssize_t start, Py_ssize_t stop)

@cython.locals(index=Py_ssize_t)
cdef object _escape(bytearray out, bytes wire, Py_ssize_t start, Py_ssize_t stop)

cpdef str name_text(bytes wire)

@cython.locals(
    out=bytearray, position=Py_ssize_t, end=Py_ssize_t, lowest=Py_ssize_t, total=Py_ssize_t, hops=int, size=Py_ssize_t
)
cpdef tuple read_name(bytes wire, Py_ssize_t start)

cpdef str type_text(int number)
cpdef str class_text(int number)
