"""Errors of Redis, and of connecting to it, as sentences for people who do not know its protocol."""

from __future__ import annotations

import re

_UNREACHABLE = re.compile(r"Error (?:-?\d+ |)(?:while )?connecting to (?:unix socket: )?(.+?)\. (.+?)\.?$")
_MAY_NOT = re.compile(r"(?:NOPERM|no permissions?|doesn't have permission|can't (?:run|access))", re.IGNORECASE)
#: Words of replies about authentication, and what they mean.
_LOGIN = {
    "HELLO must be called": "it wants a password: put user and password into the URL, or password_file=",
    "NOAUTH": "it wants a password: put user and password into the URL, or password_file=",
    "Authentication required": "it wants a password: put user and password into the URL, or password_file=",
    "WRONGPASS": "it does not take this user and password",
    "invalid username-password": "it does not take this user and password",
    "AUTH <password> called without": "it has no password, and one is given",
}


def sentence(error: BaseException | str) -> str:
    """The error as a sentence; its own text if nothing better is known."""
    text = str(error).strip() or type(error).__name__
    found = _UNREACHABLE.match(text)
    if found is not None:
        return f"nothing can be reached at {found[1]}: {_plain(found[2])}"
    for words, meaning in _LOGIN.items():
        if words in text:
            return meaning
    if may_not(text):
        return f"the user may not do this ({text}); docs/redis.md has users for nodes and for operators"
    return text


def may_not(error: BaseException | str) -> bool:
    """Whether an error says that the user lacks a permission."""
    return _MAY_NOT.search(str(error)) is not None


def _plain(reason: str) -> str:
    """A reason without the number that some systems put in front."""
    return re.sub(r"^\[Errno -?\d+\] ", "", reason)
