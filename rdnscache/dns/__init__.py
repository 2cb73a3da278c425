"""DNS as bytes: no socket, clock, Redis or gevent in here; time comes in as an argument."""
