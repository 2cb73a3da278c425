"""DNS as bytes. Pure: no socket, clock, Redis or gevent; time is passed in as an argument."""
