"""Authentication of QUIC connections: our certificate, and whether the server is the intended one."""

from __future__ import annotations

import base64
import hashlib
import ssl
from typing import Any

from rdnscache.endpoint import Endpoint

try:
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.tls import Alert, verify_certificate
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:  # an extra; other modules can be imported without it
    pass

#: Maximum octets that the server may have sent and we have not read: on one stream, enough for the largest message, and
#: on all streams.
STREAM_DATA, ALL_DATA = 1 << 17, 1 << 21
#: The idle time-out in seconds (RFC 9000 section 10.1).
SILENCE = 30.0


class Tickets:
    """The last session ticket of a server, with which the next connection is resumed (RFC 8446 section 2.2)."""

    def __init__(self) -> None:
        self._last: Any = None

    def take(self) -> Any:
        """The ticket, which is used once only: else connections could be linked to each other."""
        found, self._last = self._last, None
        return found

    def keep(self, ticket: Any) -> None:
        self._last = ticket


def cut(reason: str) -> str:
    """Printable characters of a text from a server, for a line of a message."""
    return "".join(char for char in reason[:100] if char.isprintable())


def configuration(endpoint: Endpoint, alpn: str, ticket: Any) -> Any:
    """The configuration without verification, which aioquic would do in the hub; `objection` does it."""
    found = QuicConfiguration(
        is_client=True, alpn_protocols=[alpn], server_name=endpoint.name or None, verify_mode=ssl.CERT_NONE,
        max_data=ALL_DATA, max_stream_data=STREAM_DATA, idle_timeout=SILENCE, session_ticket=ticket,
    )  # fmt: skip
    if endpoint.certificate:
        found.load_cert_chain(endpoint.certificate, endpoint.key or None)
    return found


def objection(endpoint: Endpoint, certificate: Any, chain: list[Any]) -> str:
    """Why the server is not the intended one; empty if it is. Called in a thread, since it takes milliseconds."""
    if endpoint.pins:
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        pin = base64.b64encode(hashlib.sha256(key).digest()).decode()
        if pin not in endpoint.pins:
            return f"its key is not among the pins: it is {pin}"
    if not endpoint.name:
        return ""
    system = ssl.get_default_verify_paths()
    file, folder = (endpoint.ca, None) if endpoint.ca else (system.cafile, system.capath)
    try:
        verify_certificate(certificate, chain, server_name=endpoint.name, cafile=file, capath=folder)
    except Alert as error:
        return f"its certificate is refused: {cut(str(error))}"
    return ""
