"""Certificates and keys in files, taken by OpenSSL; what is wrong with them in words, its own are for programmers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl import SSLContext

#: What OpenSSL says, and what it means.
_MEANT = {
    "KEY_VALUES_MISMATCH": "its key is that of another certificate",
    "NO_CERTIFICATE_ASSIGNED": "its key is that of another certificate",
    "EE_KEY_TOO_SMALL": "its key is too small",
    "CA_KEY_TOO_SMALL": "the key of its issuer is too small",
    "CA_MD_TOO_WEAK": "it is signed in too weak a way",
}
_CERTIFICATE, _KEY = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"


def trust(context: SSLContext, file: str) -> None:
    """Believe who is signed by those in a file. Raises ValueError with a reason that can stand behind its name."""
    _take(lambda: context.load_verify_locations(file), file, "")


def present(context: SSLContext, file: str, key: str) -> None:
    """Show the certificate in a file; its key is there as well, where `key` is empty. Raises ValueError likewise."""
    _take(lambda: context.load_cert_chain(file, key or None, _no_password), file, key or file)


def _no_password() -> str:
    raise ValueError("its key is encrypted, and there is nobody to ask for the password")


def _take(load: Callable[[], None], file: str, key: str) -> None:
    try:
        load()
    except OSError as error:  # SSLError is one
        reason = getattr(error, "reason", None) or ""
        if not hasattr(error, "library"):
            raise ValueError(error.strerror or str(error)) from None
        if not _holds(file, _CERTIFICATE):
            raise ValueError("there is no certificate in it, in PEM") from None
        if key and not _holds(key, _KEY):
            raise ValueError(f"there is no key in {key}, in PEM" if key != file else "there is no key in it") from None
        raise ValueError(_MEANT.get(reason) or reason.replace("_", " ").lower() or "it is damaged") from None


def _holds(file: str, words: bytes) -> bool:
    with open(file, "rb") as text:
        return words in text.read(1 << 20)
