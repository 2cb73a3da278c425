"""Answers given by rules instead of by upstreams: bytes in, verdict out. Pure: no clock, socket, Redis or gevent."""
