"""What is answered by rules instead of by upstreams: bytes in, verdict out; no clock, socket, Redis or gevent."""
