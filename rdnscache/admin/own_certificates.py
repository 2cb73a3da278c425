"""When the certificates end that a node shows to upstreams and to Redis."""

from __future__ import annotations

import logging

from rdnscache.config import Config
from rdnscache.metrics import CERTIFICATE_EXPIRY, Sample
from rdnscache.redis_url import parse
from rdnscache.upstream.certificates import expiry_of_file

log = logging.getLogger(__name__)


def own_certificates(config: Config) -> list[Sample]:
    """A sample for each file; a file that has been renewed since counts from the next reload on, as for connections."""
    files = [each.certificate for each in config.endpoints if each.certificate]
    if config.redis not in ("embedded", "none"):
        files.append(str(parse(config.redis).tls_arguments.get("ssl_certfile", "")))
    found = []
    for file in sorted({*files} - {""}):
        try:
            found.append(Sample(CERTIFICATE_EXPIRY, (("file", _quoted(file)),), expiry_of_file(file)))
        except ValueError as error:
            log.warning("it cannot be told when the certificate in %s ends: %s", file, error)
    return found


def _quoted(text: str) -> str:
    """As a label's value: a path may have anything in it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
