"""Who asks, and how much. Pure: no socket, clock, Redis or gevent; time and random numbers are passed in."""
