"""Log lines: for people, or as a JSON object each."""

from __future__ import annotations

import json
import logging
import sys
import time


def set_up(level: str, form: str, node: str) -> None:
    """Log to standard error from now on; `form` is `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    text = f"%(asctime)s %(levelname)s {node}[%(process)d] %(name)s: %(message)s"
    handler.setFormatter(JsonFormatter(node) if form == "json" else logging.Formatter(text))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC), level, node, pid, logger, message; and the fields of a query in the query log."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "node": self._node,
            "pid": record.process,
            "logger": record.name,
        }
        fields = getattr(record, "fields", None)
        told |= {"message": "query", **fields} if fields else {"message": record.getMessage()}
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told)


class Throttled:
    """A warning that may be due thousands of times a second: said at most every few seconds, with how often it was due.

    Moments come in as arguments, in seconds.
    """

    PAUSE = 5.0

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._next = 0.0
        self._unsaid = 0
        self._last = ""

    def warn(self, text: str, now: float) -> None:
        self._last = text
        self._unsaid += 1
        self.catch_up(now)

    def catch_up(self, now: float) -> None:
        """Say what could not be said, when it is time; to be called now and then."""
        if not self._unsaid or now < self._next:
            return
        more = f" (and {self._unsaid - 1} more like it)" if self._unsaid > 1 else ""
        self._log.warning("%s%s", self._last, more)
        self._next = now + self.PAUSE
        self._unsaid = 0
