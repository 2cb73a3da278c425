"""Notifications to systemd, sd_notify(3): ready, reloading, stopping, a status, and the watchdog's heartbeat.

Without NOTIFY_SOCKET in the environment nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

#: Longest status in characters.
_LONGEST_STATUS = 500
#: Seconds until the next heartbeat when there is no watchdog.
_NEVER = 3600.0
#: Longest wait for a busy manager, in seconds.
_LONGEST_WAIT = 1.0


class Manager:
    """The service manager, as the supervisor sees it."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        #: A path, or an abstract address, which begins with a zero octet.
        self._path = "\0" + path[1:] if path.startswith("@") else path if path.startswith("/") else ""
        self._pause = _longest_silence(environ) / 2 if self._path else 0.0
        self._next_beat = 0.0
        self._ready = False
        self._status = ""
        #: Why the last reload or restart failed.
        self._problem = ""

    def tell(self, working: int, workers: int) -> None:
        """Report how many workers are at work: once all of them are, the service is ready."""
        status = f"workers at work: {working} of {workers}" + (f"; {self._problem}" if self._problem else "")
        ready = working == workers and not self._ready
        if ready or status != self._status:
            self._ready, self._status = self._ready or ready, status
            self._send(*(["READY=1"] if ready else []), f"STATUS={status}")

    def reloading(self, what: str) -> None:
        """A reload or restart begins. It ends with `reloaded`, or when the next image is ready."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", f"STATUS={what}")
        self._ready, self._status = True, what
        self.beat(now=True)

    def reloaded(self, what: str, problem: str) -> None:
        """The reload is over. sd_notify has no message for failure, so a problem is shown in the status until the next
        one."""
        self._problem = f"the last {what} was refused: {problem}" if problem else ""
        self._ready, self._status = True, ""
        self._send("READY=1")

    def stopping(self, seconds: float) -> None:
        """We are stopping, and need at most this many seconds, whatever the unit allows."""
        self._status = "answering the queries in flight"
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", f"STATUS={self._status}")

    def beat(self, now: bool = False) -> float:
        """Send the watchdog's heartbeat if it is due, or `now`; returns the seconds until the next one."""
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
            except OSError:  # the manager is gone or too busy: the service goes on
                return


def _longest_silence(environ: Mapping[str, str]) -> float:
    """Seconds after which the watchdog would end us, sd_watchdog_enabled(3); 0 without a watchdog."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (text.isascii() and text.isdigit()) or pid not in ("", str(os.getpid())):
        return 0.0
    return int(text[:18]) / 1e6
