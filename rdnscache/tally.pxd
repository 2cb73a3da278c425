cpdef object count(object numbers, Py_ssize_t at, long long more)
