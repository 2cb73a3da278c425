"""Exit code 0 when the node in this container answers, 1 when not.

It is asked for `id.server. CH TXT`, which it answers itself: no upstream, no Redis and no cache take part.
"""

import os
import socket
import sys

SECONDS = 2.0


def main() -> int:
    first = os.environ.get("RDNSCACHE_LISTEN", "127.0.0.1:5300").replace(",", " ").split()[0]
    host, _, port = first.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    number = os.urandom(2)
    query = number + b"\0\0\0\1\0\0\0\0\0\0" + b"\2id\6server\0" + b"\0\x10\0\3"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(SECONDS)
        try:
            sock.connect((host, int(port)))
            sock.send(query)
            reply = sock.recv(512)
        except OSError as error:
            print(f"no answer from {host}:{port}: {error}")
            return 1
    ours = len(reply) >= 12 and reply[:2] == number and reply[2] & 0x80
    print(f"{host}:{port} answers" if ours else f"not a reply: {reply!r}")
    return 0 if ours else 1


if __name__ == "__main__":
    sys.exit(main())
