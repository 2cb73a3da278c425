cimport cython

from rdnscache.clients.shares cimport Holder, Line, Share, Shares, zone_of


cdef class Task(Holder):
    cdef public bytes key
    cdef public double since
    cdef public double began
    cdef public bytes client
    cdef public bytes zone
    cdef public bint up
    cdef public object flyer


cdef class Crew:
    cdef object _fly
    cdef object _shed
    cdef object _delay
    cdef int _size
    cdef int _window
    cdef double _next_look
    cdef set _crew
    cdef list _idle
    cdef int _spare
    cdef int _ended
    cdef bint _checking_idle
    cdef dict _flying
    cdef object _called
    cdef Line _line
    cdef object _hub
    cdef object _ticker
    cdef Shares _shares
    cdef bint _counting
    cdef int _crowd
    cdef public bint pressed
    cdef bint _firm
    cdef double _next_warning
    cdef double _lag
    cdef double _lag_seen
    cdef double _behind_since

    @cython.locals(greediest=Share)
    cpdef bint refuses(self, bytes client, bytes key) except -1
    cpdef object start(self, Task task, double now)
    cdef bint _has_room(self) except -1
    @cython.locals(greediest=Share)
    cdef bint _held_back(self, Task task) except -1
    @cython.locals(delay=double, of=int)
    cdef object _adjust_window(self, double now)
    cdef object _run(self, Task task, double now)
    cpdef object press(self)
    cpdef bint give_up_oldest(self, double now) except -1
    @cython.locals(greediest=Share)
    cpdef bint give_up_oldest_of(self, bytes client, bytes key, double now) except -1
    @cython.locals(task=Task)
    cpdef object _work(self)
    cdef object _note_lag(self, Task task, double now)
    cdef object _check_idle(self)
    @cython.locals(count=int)
    cpdef object _end_idle(self, object timer)
    cdef object _call(self, Task task, double now)
    cdef object _begin(self, Task task, double now)
    @cython.locals(other=Task)
    cdef object _finish(self, Task task)
    @cython.locals(task=Task)
    cdef object _count_all(self)
    cdef object _count(self, Task task)
    @cython.locals(greediest=Share)
    cdef bint _end_one_of_greediest(self, Task task, double now) except -1
    @cython.locals(greediest=Share)
    cdef bint _end_overdue(self, double now) except -1
    cdef bint _end_if_long(self, Task task, double now, double seconds) except -1
    cdef bint _end_if_any(self, Task task, double now) except -1
    cdef object _end(self, Task task, double now)
    cdef object _serve_later(self)
    @cython.locals(now=double)
    cpdef object _tick(self)
    @cython.locals(task=Task)
    cdef object _serve(self, double now, int count)

cpdef object _interrupt(Task task)
