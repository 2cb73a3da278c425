"""Asks an installed rdnscache a question, which says whether a wheel can be used where it was just installed.

python tests/installed.py [compiled|pure Python]: by the Python it is installed for; nothing else is needed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from first_answer import answer, ask, bound

#: Seconds until the node answers.
LONGEST = 60.0


def main() -> int:
    command = str(Path(sys.executable).parent / "rdnscache")
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if not version.endswith(f"({sys.argv[1]})" if len(sys.argv) > 1 else ")"):
        print(f"this is {version}")
        return 1
    upstream = bound()
    threading.Thread(target=answer, args=(upstream,), daemon=True).start()
    with bound() as probe:
        port = probe.getsockname()[1]
    serving = [command, "serve", "--redis", "none", "--workers", "1", "--listen", f"127.0.0.1:{port}"]
    serving += ["--upstream", f"127.0.0.1:{upstream.getsockname()[1]}"]
    with tempfile.TemporaryDirectory(prefix="rdns-") as folder:
        node = subprocess.Popen(serving, stdin=subprocess.DEVNULL, cwd=folder)  # not where the source is
        deadline = time.monotonic() + LONGEST
        while not (answered := ask(port, 0, 0.5)) and node.poll() is None and time.monotonic() < deadline:
            pass
        node.terminate()
        ended = node.wait(30)
    print(f"{version}: {'answered' if answered else 'no answer'}, ended with {ended}")
    return 0 if answered and ended == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
