cpdef object count_reply(object counters, int first, int rcode)
cpdef object observe(object counters, int histogram, double seconds, int count)
