"""Who asks, and how much: no socket, clock, Redis or gevent in here; time and chance come in as arguments."""
