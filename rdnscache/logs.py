"""Log lines, as text for people or as one JSON object each; bounded in number and length whoever causes them.

Much of what is logged comes from packets, messages and requests. So each line is cut, its control characters are
escaped, and no place in the code writes more than a few lines in a row: lines that are held back are counted, and the
next one says how many there were. Where a flood is expected, use `Throttled`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rdnscache.printable import printable

#: Longest message, longest throttled message and longest traceback, in characters; the rest is cut.
LONGEST_LINE, LONGEST_THROTTLED, LONGEST_TRACE = 500, 250, 2000
#: Lines that one place in the code may write in a row; seconds until it may write another.
BURST, PAUSE = 20, 5.0

log = logging.getLogger(__name__)


def set_up(level: str, form: str, node: str) -> None:
    """Log to standard error from now on; `form` is `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    text = f"%(asctime)s %(levelname)s {node}[%(process)d] %(name)s: %(message)s"
    handler.setFormatter(JsonFormatter(node) if form == "json" else TextFormatter(text))
    handler.addFilter(HoldBack())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def clean(text: str, limit: int = LONGEST_LINE) -> str:
    """Make any text safe for a log line and a terminal: cut, with unprintable characters escaped."""
    cut = printable(text[:limit])
    if len(text) > limit or len(cut) > 2 * limit:
        cut = f"{cut[: 2 * limit]}... ({len(text)} characters)"
    return cut


def log_uncaught(
    context: Any, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    """Replaces `print_exception` of gevent's hub, so that uncaught exceptions are logged like everything else."""
    log.error("uncaught in %s", type(context).__name__, exc_info=(kind, error, trace) if error is not None else None)


class HoldBack(logging.Filter):
    """Lets through `BURST` lines in a row from one place in the code, then one every `PAUSE` seconds.

    Lines that are paced already pass: those of `Throttled`, and the sampled query log.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        #: By file and line number: how many lines may be written now, as of which moment, and how many were held back.
        self._places: dict[tuple[str, int], tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "paced", False) or hasattr(record, "fields"):
            return True
        place, now = (record.pathname, record.lineno), self._clock()
        left, then, unsaid = self._places.get(place, (BURST, now, 0))
        left = min(left + (now - then) / PAUSE, BURST)
        if left < 1:
            self._places[place] = left, now, unsaid + 1
            return False
        self._places[place] = left - 1, now, 0
        if unsaid:
            record.msg, record.args = clean(record.getMessage()) + f" (and {unsaid} more from this place)", ()
        return True


class TextFormatter(logging.Formatter):
    """A line of text with its time in UTC. A traceback below it keeps its line breaks."""

    converter = staticmethod(time.gmtime)
    default_time_format, default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = clean(record.message)
        return super().formatMessage(record)

    def formatException(self, told: Any) -> str:
        return _cut_trace(super().formatException(told))


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
        told |= {"message": "query", **fields} if fields else {"message": clean(record.getMessage())}
        if record.exc_info:
            told["error"] = _cut_trace(self.formatException(record.exc_info))
        return json.dumps(told)


def _cut_trace(text: str) -> str:
    """The beginning and the end of a traceback, since values in an exception's text can come from anybody, in any
    size."""
    if len(text) > LONGEST_TRACE:
        text = f"{text[: LONGEST_TRACE // 2]}\n[...]\n{text[-LONGEST_TRACE // 2 :]}"
    return "\n".join(clean(line) for line in text.split("\n"))


class Throttled:
    """A warning that may be due thousands of times a second: logged every few seconds at most, with how often it was
    due.

    The caller passes the time, in seconds.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._next = 0.0
        self._unsaid = 0
        self._last = ""

    def warn(self, text: str, now: float) -> None:
        self._last = text if len(text) <= LONGEST_THROTTLED else clean(text, LONGEST_THROTTLED)
        self._unsaid += 1
        self.catch_up(now)

    def catch_up(self, now: float) -> None:
        """Log the last warning that was held back, once the pause is over; called from time to time."""
        if not self._unsaid or now < self._next:
            return
        more = f" (and {self._unsaid - 1} more like it)" if self._unsaid > 1 else ""
        self._log.warning("%s%s", clean(self._last), more, extra={"paced": True})
        self._next = now + PAUSE
        self._unsaid = 0
