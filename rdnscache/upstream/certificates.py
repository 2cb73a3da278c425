"""Authentication of upstreams: certificates, pins, and a sentence for each refusal."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime

from rdnscache import tls_files
from rdnscache.errors import ConfigError
from rdnscache.files import read_text

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)

#: Why a certificate is refused (X509_V_ERR_* of OpenSSL), for people.
_REFUSALS = {
    9: "it is not valid yet", 10: "it has expired", 18: "it is self-signed", 19: "its issuer is not trusted",
    20: "its issuer is not known", 21: "its issuer is not known", 23: "it is revoked", 62: "it is for another name",
    64: "it is for another address",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity that a server has to prove, and our own. Files are in PEM; an empty `ca` means the system's CAs."""

    #: A host name or an IP address; empty if only pins count.
    name: str = ""
    #: SHA-256 of public keys in base64 (RFC 7858 section 4.2); empty: any key.
    pins: tuple[str, ...] = ()
    ca: str = ""
    certificate: str = ""
    key: str = ""


def context(identity: Identity, protocol: str) -> ssl.SSLContext:
    """The TLS context for connections to a server; `protocol` is offered (ALPN). Raises ConfigError for unusable files.

    Reading the system's CAs takes some 20 ms; it is done once for each server, before it is asked.
    """
    if not identity.name and not identity.pins:
        raise ConfigError("a server over TLS needs a name or a pin, by which it is authenticated")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_COMPRESSION | getattr(ssl, "OP_NO_RENEGOTIATION", 0)
    made.set_alpn_protocols([protocol])
    file = identity.ca
    try:
        if not identity.name:
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE  # the pin is checked instead
        elif file:
            tls_files.trust(made, file)
        else:
            made.load_default_certs(ssl.Purpose.SERVER_AUTH)
        file = identity.certificate
        if file:
            tls_files.present(made, file, identity.key)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None
    return made


def refusal(error: ssl.SSLCertVerificationError, name: str) -> str:
    """A sentence about the refused certificate of the server `name`."""
    why = _REFUSALS.get(error.verify_code, error.verify_message)
    return f"its certificate is refused: {why}" + (f" than {name}" if error.verify_code in (62, 64) else "")


def pinned(certificate: bytes | None, pins: tuple[str, ...]) -> bool:
    """Whether the public key of a server's certificate (DER) has one of the pins."""
    key = public_key(certificate) if certificate else b""
    found = base64.b64encode(hashlib.sha256(key).digest()).decode() if key else ""
    return found in pins


def public_key(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate in DER (RFC 5280 section 4.1); empty if none is found."""
    try:
        at = _behind(certificate, 5)  # serial number, algorithm, issuer, validity, subject
        end = _element(certificate, at)[1]
    except IndexError:
        return b""
    return certificate[at:end] if end <= len(certificate) else b""


def expiry(certificate: bytes) -> float:
    """The end of a certificate's validity as Unix time (RFC 5280 section 4.1.2.5). ValueError if it is malformed."""
    try:
        at = _behind(certificate, 3)  # serial number, algorithm, issuer
        at, _ = _element(certificate, at)  # Validity
        at = _element(certificate, at)[1]  # notBefore
        start, end = _element(certificate, at)
    except IndexError:
        raise ValueError("it is not a certificate") from None
    text = certificate[start:end].decode("ascii", "replace")
    if certificate[at] == 0x17:  # UTCTime, of the years 1950 to 2049
        text = ("19" if text >= "5" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def expiry_of_file(path: str) -> float:
    """When the first of the certificates in a PEM file ends, those of its issuers included. Raises ValueError."""
    found = _PEM.findall(read_text(path))
    if not found:
        raise ValueError("there is no certificate in it")
    return min(expiry(ssl.PEM_cert_to_DER_cert(each)) for each in found)


def _behind(certificate: bytes, count: int) -> int:
    """Where the field behind the first `count` begins, the version not counted (RFC 5280 section 4.1). IndexError."""
    at, _ = _element(certificate, 0)  # Certificate
    at, _ = _element(certificate, at)  # TBSCertificate
    if certificate[at] == 0xA0:  # version
        at = _element(certificate, at)[1]
    for _ in range(count):
        at = _element(certificate, at)[1]
    return at


def _element(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of the DER element at `at` begins, and where it ends."""
    size, start = data[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        start += count
        size = int.from_bytes(data[at + 2 : start], "big") if count <= 4 else 1 << 32
    return start, start + size
