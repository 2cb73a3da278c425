cpdef bytes receive(int fd)

cpdef object send(int fd, bytes data)
