"""TLS connections to Redis, with the parameters of its URL."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any

_CHECKS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def encrypted(sock: socket.socket, told: Mapping[str, Any], name: str) -> ssl.SSLSocket:
    """The socket after a TLS handshake with the server `name`; it is closed if that fails.

    Raises OSError, and ValueError for files and ciphers that cannot be used.
    """
    try:
        return _context(told).wrap_socket(sock, server_hostname=name)
    except BaseException as error:
        sock.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            raise ConnectionError(f"its certificate is refused: {error.verify_message}") from None
        raise


def _context(told: Mapping[str, Any]) -> ssl.SSLContext:
    """The context of one connection; made anew each time, since certificates are renewed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # must be off before verify_mode may be set to CERT_NONE
    context.verify_mode = _CHECKS[told.get("ssl_cert_reqs", "required")]
    context.check_hostname = told.get("ssl_check_hostname", True) and context.verify_mode != ssl.CERT_NONE
    try:
        if "ssl_ca_certs" in told or "ssl_ca_path" in told:
            context.load_verify_locations(told.get("ssl_ca_certs"), told.get("ssl_ca_path"))
        elif context.verify_mode != ssl.CERT_NONE:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if "ssl_certfile" in told:
            context.load_cert_chain(told["ssl_certfile"], told.get("ssl_keyfile"), told.get("ssl_password", ""))
        if "ssl_ciphers" in told:
            context.set_ciphers(told["ssl_ciphers"])
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise ValueError(f"the TLS parameters in the URL of Redis cannot be used: {error}") from None
    return context
