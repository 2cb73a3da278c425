"""What systemd is told of this service, sd_notify(3): that it is ready, reloads, ends, how it does, and that it lives.

Without NOTIFY_SOCKET in the environment nobody is told anything.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

#: Characters of a status.
_LONGEST_STATUS = 500
#: Seconds until the next beat where nobody waits for one.
_NEVER = 3600.0
#: Seconds that a manager with too much to do is waited for.
_LONGEST_WAIT = 1.0


class Manager:
    """The service manager, as the supervisor sees it."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        #: Of the file system, or abstract: those begin with a zero octet.
        self._path = "\0" + path[1:] if path.startswith("@") else path if path.startswith("/") else ""
        self._pause = _longest_silence(environ) / 2 if self._path else 0.0
        self._next_beat = 0.0
        self._ready = False
        self._status = ""
        #: How the last reload or restart went wrong.
        self._problem = ""

    def tell(self, working: int, workers: int) -> None:
        """How many of the workers are at work: with all of them for the first time, the service is ready."""
        status = f"workers at work: {working} of {workers}" + (f"; {self._problem}" if self._problem else "")
        ready = working == workers and not self._ready
        if ready or status != self._status:
            self._ready, self._status = self._ready or ready, status
            self._send(*(["READY=1"] if ready else []), f"STATUS={status}")

    def reloading(self, what: str) -> None:
        """A reload or restart begins; `reloaded` ends it, or the next image by being ready."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", f"STATUS={what}")
        self._ready, self._status = True, what
        self.beat(now=True)

    def reloaded(self, what: str, problem: str) -> None:
        """It is over; there is no word for failure, so a problem is part of the status until the next one."""
        self._problem = f"the last {what} was refused: {problem}" if problem else ""
        self._ready, self._status = True, ""
        self._send("READY=1")

    def stopping(self, seconds: float) -> None:
        """We end, and need so many seconds at most, however many the unit allows."""
        self._status = "answering what is in flight"
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", f"STATUS={self._status}")

    def beat(self, now: bool = False) -> float:
        """Tell the watchdog that we live, when that is due or `now`; returns the seconds until the next time."""
        if not self._pause:
            return _NEVER
        moment = time.monotonic()
        if now or moment >= self._next_beat:
            self._send("WATCHDOG=1")
            self._next_beat = moment + self._pause
        return self._next_beat - moment

    def _send(self, *lines: str) -> None:
        if not self._path:
            return
        told = "\n".join(" ".join(line.split())[:_LONGEST_STATUS] for line in lines)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_LONGEST_WAIT)
            try:
                sock.sendto(told.encode("utf-8", "replace"), self._path)
            except OSError:  # it is gone, or has no time: the service goes on
                return


def _longest_silence(environ: Mapping[str, str]) -> float:
    """Seconds after which the watchdog would end us, sd_watchdog_enabled(3); 0 when there is none."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (text.isascii() and text.isdigit()) or pid not in ("", str(os.getpid())):
        return 0.0
    return int(text[:18]) / 1e6
