cimport cython

@cython.locals(label=bytes)
cpdef object label_text(bytes label)

cpdef object name_text(bytes wire)

@cython.locals(
    labels=list, position=Py_ssize_t, end=Py_ssize_t, lowest=Py_ssize_t, total=Py_ssize_t, hops=int, size=Py_ssize_t
)
cpdef tuple read_name(bytes wire, Py_ssize_t start)
