"""Fetches a list by HTTP. Separate from `sources`, because a supervisor should not load TLS."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any

from rdnscache import __version__
from rdnscache.lists.sources import CHUNK, WEB, SourceError
from rdnscache.policy.list_text import MOST_OCTETS

#: Seconds that a server may be silent, and that the whole download may take.
SILENCE, LONGEST = 15.0, 600.0


@dataclass(slots=True)
class Fetched:
    """A download; `tag` serves to ask for changes later. No file means that the list has not changed."""

    file: IO[bytes] | None
    tag: str = ""


class _Web(urllib.request.HTTPRedirectHandler):
    """Follows redirects to other servers, but not to other schemes."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(WEB) or (req.full_url.startswith("https:") and not newurl.startswith("https:")):
            raise urllib.error.URLError(f"it redirects to {newurl[:100]}")
        return urllib.request.HTTPRedirectHandler.redirect_request(self, req, fp, code, msg, headers, newurl)


def fetch(url: str, tag: str, breathe: Callable[[], None]) -> Fetched:
    """A list by HTTP, into a file that has no name. Raises SourceError."""
    headers = {"User-Agent": f"rdnscache/{__version__}", "Accept-Encoding": "identity"}
    if tag:
        headers["If-None-Match"] = tag
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - `web` has seen to that
    opener = urllib.request.build_opener(_Web())
    end = time.monotonic() + LONGEST
    file: IO[bytes] = TemporaryFile()  # noqa: SIM115 - whoever asked for it closes it
    try:
        with opener.open(request, timeout=SILENCE) as reply:
            size = 0
            while data := reply.read1(CHUNK):
                breathe()
                size += len(data)
                if size > MOST_OCTETS:
                    raise SourceError(f"is larger than {MOST_OCTETS >> 20} MiB")
                if time.monotonic() > end:
                    raise SourceError(f"has not ended after {LONGEST:g} s")
                file.write(data)
            expected = reply.headers.get("Content-Length", "")
            if expected.isdigit() and int(expected) != size:
                raise SourceError(f"has ended after {size} of {expected} octets")
            found = str(reply.headers.get("ETag", ""))[:200]
    except urllib.error.HTTPError as error:
        if error.code == 304 and tag:
            return Fetched(None, tag)
        raise SourceError(f"answers {error.code} {error.reason}") from None
    except (OSError, ValueError, EOFError, http.client.HTTPException) as error:
        raise SourceError(f"cannot be fetched: {getattr(error, 'reason', error)}") from None
    file.seek(0)
    return Fetched(file, found)
