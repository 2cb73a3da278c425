"""When the certificates expire that a node presents to upstreams and to Redis."""

from __future__ import annotations

import logging

from rdnscache.config import Config
from rdnscache.metrics import CERTIFICATE_EXPIRY, Sample
from rdnscache.redis_url import parse
from rdnscache.upstream.certificates import expiry_of_file

log = logging.getLogger(__name__)


def own_certificates(config: Config) -> list[Sample]:
    """A sample for each file; a renewed file counts from the next reload on, which is when connections use it as
    well."""
    files = [each.certificate for each in config.endpoints if each.certificate]
    if config.redis not in ("embedded", "none"):
        files.append(str(parse(config.redis).tls_arguments.get("ssl_certfile", "")))
    found = []
    for file in sorted({*files} - {""}):
        try:
            found.append(Sample(CERTIFICATE_EXPIRY, (("file", _quoted(file)),), expiry_of_file(file)))
        except ValueError as error:
            log.warning("the expiry of the certificate in %s is missing from the metrics: %s", file, error)
    return found


def _quoted(text: str) -> str:
    """A path as the value of a label, with all special characters escaped."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
