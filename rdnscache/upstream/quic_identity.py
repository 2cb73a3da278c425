"""With whom a QUIC connection is: what we say of ourselves, and whether the server is the one that is meant."""

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
except ImportError:  # the rest of the house can be looked at without
    pass

#: Octets that the server may send and nobody has taken: on one stream, which a message and its length fit into, and on
#: all of them.
STREAM_DATA, ALL_DATA = 1 << 17, 1 << 21
#: Seconds of silence after which the connection is gone for both sides (RFC 9000 section 10.1).
SILENCE = 30.0


class Tickets:
    """What lets the next connection to a server begin without a certificate (RFC 8446 section 2.2): the last ticket."""

    def __init__(self) -> None:
        self._last: Any = None

    def take(self) -> Any:
        """Each once, or the connections could be told to belong together."""
        found, self._last = self._last, None
        return found

    def keep(self, ticket: Any) -> None:
        self._last = ticket


def cut(reason: str) -> str:
    """As much of what others say as fits into a line."""
    return "".join(char for char in reason[:100] if char.isprintable())


def configuration(endpoint: Endpoint, alpn: str, ticket: Any) -> Any:
    """Whom the server is, is for `objection` to see: aioquic would look at it in the hub."""
    found = QuicConfiguration(
        is_client=True, alpn_protocols=[alpn], server_name=endpoint.name or None, verify_mode=ssl.CERT_NONE,
        max_data=ALL_DATA, max_stream_data=STREAM_DATA, idle_timeout=SILENCE, session_ticket=ticket,
    )  # fmt: skip
    if endpoint.certificate:
        found.load_cert_chain(endpoint.certificate, endpoint.key or None)
    return found


def objection(endpoint: Endpoint, certificate: Any, chain: list[Any]) -> str:
    """Why this is not the server we mean; empty when it is. It takes milliseconds, and runs in a thread of its own."""
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
