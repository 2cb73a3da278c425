"""From a checkout to its first answer: runs `make serve`, asks until the node is compiled, and says how long it took.

python3 tests/first_answer.py [--clone]

In the checkout itself, which tells something when it is fresh; or in a clone that is removed afterwards. Nothing is
installed when it begins, so it knows DNS only as far as it must. Exit code 1 when a question was not answered.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Seconds until the first answer, and until the node is compiled, after which we give up; seconds for one question.
LONGEST, COMPILING, PATIENCE = 300.0, 900.0, 5.0
RECORD = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\xc0\0\2\1"  # A 192.0.2.1, for 300 s


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # and end the node before
    if "--clone" not in sys.argv[1:]:
        return measure(ROOT)
    with tempfile.TemporaryDirectory(prefix="rdns-") as folder:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), folder], check=True)
        return measure(Path(folder))


def measure(checkout: Path) -> int:
    upstream = bound()
    threading.Thread(target=answer, args=(upstream,), daemon=True).start()
    with bound() as probe:
        port = probe.getsockname()[1]
    command = ["make", "serve", f"UPSTREAM=127.0.0.1:{upstream.getsockname()[1]}"]
    command.append(f"SERVE_OPTIONS=--listen 127.0.0.1:{port} --node-id first-answer-{port}")
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        node = subprocess.Popen(command, cwd=checkout, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                                start_new_session=True)  # fmt: skip
        try:
            return follow(node, port, Path(f"/proc/self/fd/{said.fileno()}"), started)
        finally:
            os.killpg(node.pid, signal.SIGINT)  # as Ctrl-C does
            node.wait(60)
            said.seek(0)
            print(said.read())


def follow(node: subprocess.Popen[bytes], port: int, said: Path, started: float) -> int:
    """The first answer, then one question after the other until the node that answers is compiled, or cannot be."""
    while not ask(port, 0, 0.1):
        if node.poll() is not None or time.monotonic() - started > LONGEST:
            print("no answer")
            return 1
    first = time.monotonic() - started
    asked, lost, line, end = 1, 0, "still being compiled", started + COMPILING
    while time.monotonic() < end and node.poll() is None:
        lost += not ask(port, asked, PATIENCE)
        asked += 1
        text = said.read_text()
        if "no compiled form" in text:
            line, end = "no compiled form here", 0.0
        elif "(compiled)" in text and all_changed(text):
            line, end = f"compiled after {time.monotonic() - started:.1f} s", 0.0
        elif "does not work" in text:
            line, lost, end = "the compiled form does not work", lost + 1, 0.0
        time.sleep(0.02)
    print(f"first answer after {first:.1f} s, {line}; {asked} questions, {lost} without an answer", flush=True)
    return 1 if lost or node.poll() is not None else 0


def all_changed(text: str) -> bool:
    """Whether each worker has said in both forms that it has found Redis, where there is one."""
    workers = re.search(r"(\d+) workers? on ", text)
    return "no Redis to embed" in text or text.count("attached to Redis") >= 2 * int(workers[1] if workers else 1)


def bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def answer(sock: socket.socket) -> None:
    """An upstream that has one answer for everything."""
    while True:
        query, source = sock.recvfrom(4096)
        end = query.index(b"\0", 12) + 5
        sock.sendto(query[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + query[12:end] + RECORD, source)


def ask(port: int, number: int, seconds: float) -> bool:
    """Whether a question of its own is answered in time."""
    label = b"n%d" % number
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(struct.pack("!6H", number & 0xFFFF, 0x0100, 1, 0, 0, 0)
                      + bytes((len(label),)) + label + b"\7example\3com\0\0\1\0\1")  # fmt: skip
            return sock.recv(4096).endswith(RECORD[-4:])
        except OSError:  # no answer, or nobody there yet
            time.sleep(min(seconds, 0.02))
            return False


if __name__ == "__main__":
    sys.exit(main())
