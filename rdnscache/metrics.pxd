cpdef object observe(object counters, int histogram, double seconds, int count)
