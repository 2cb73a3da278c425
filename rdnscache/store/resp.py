"""A reader for the replies and messages of a server (RESP3), within limits.

No memory is allocated for sizes that are only announced: lists grow with what arrives, and a string that is too large
is skipped while it arrives. It is replaced by an error, so that the connection can go on and the value be deleted.
"""

from __future__ import annotations

from typing import Any

import hiredis

#: Maximum octets of a string, and of all strings of a reply; strings beyond that are skipped.
LONGEST_STRING, LONGEST_REPLY = 1 << 20, 4 << 20
#: Maximum elements of a reply, nested ones included (a large cluster has many slots), and depth of nesting.
MOST_ELEMENTS, DEEPEST = 1 << 18, 8
#: Maximum octets of a line, which is a number, a status or an error.
LONGEST_LINE = 4096
#: Maximum digits of a number, which then fits into 64 bits.
_DIGITS = 18

#: Returned if there is no complete reply yet.
MORE = _MORE = object()
_OPENED = object()

#: The first octet of a value.
_STRING, _BULK_ERROR, _VERBATIM = b"$!="
_LIST, _SET, _MAP, _PUSH = b"*~%>"
_STATUS, _ERROR, _NUMBER, _NULL, _BOOLEAN, _DOUBLE = b"+-:_#,"


class Push(list[Any]):
    """A push message."""


class Map(list[Any]):
    """Keys and values in turn."""


class Reader:
    """Reads replies. Arrays and sets become lists; maps and push messages become subclasses of list."""

    def __init__(self, longest_string: int = LONGEST_STRING, most_elements: int = MOST_ELEMENTS) -> None:
        self._longest_string = longest_string
        self._longest_reply = max(LONGEST_REPLY, longest_string)
        self._most_elements = most_elements
        self._data = b""
        self._at = 0
        #: The innermost open list: its elements so far, and the number still missing.
        self._values: list[Any] = []
        self._missing = 0
        self._depth = 0
        #: The same for the lists around it.
        self._around: list[tuple[list[Any], int]] = []
        #: Elements and octets that the reply may still have.
        self._elements = most_elements
        self._octets = self._longest_reply
        #: A string that has not arrived completely: its kind (0: there is none), the part that has arrived (unless it
        #: is skipped), its size, and the octets still missing, CR LF included.
        self._kind = 0
        self._part = bytearray()
        self._size = 0
        self._rest = 0
        self._kept = False

    def feed(self, data: bytes) -> None:
        """Add octets that have arrived; to be called after `gets` has returned MORE."""
        if self._at < len(self._data):
            data = self._data[self._at :] + data
        self._data = data
        self._at = 0

    def has_data(self) -> bool:
        """Whether there is part of a reply."""
        return self._at < len(self._data) or self._kind != 0 or self._depth > 0

    def gets(self) -> Any:
        """The next reply or message, or MORE. Raises ValueError if it is not RESP, or exceeds a limit.

        Errors are returned as `hiredis.ReplyError`, not raised; so are strings that are too large.
        """
        while True:
            value = self._rest_of_string() if self._kind else self._item()
            if value is _MORE or value is _OPENED:
                if value is _MORE:
                    return MORE
                continue
            while self._depth:
                self._values.append(value)
                self._missing -= 1
                if self._missing:
                    break
                value = self._values
                self._depth -= 1
                if self._depth:
                    self._values, self._missing = self._around.pop()
            if self._depth == 0:
                self._elements = self._most_elements
                self._octets = self._longest_reply
                return value

    def _item(self) -> Any:
        """The next value, _OPENED for the beginning of a list with elements, or MORE."""
        data, start, stop = self._data, self._at, len(self._data)
        end = start
        while end < stop and data[end] != 13:
            end += 1
        if end + 1 >= stop:
            if stop - start > LONGEST_LINE:
                raise ValueError("a line without end")
            return _MORE
        if data[end + 1] != 10 or end == start:
            raise ValueError("a line that does not end")
        kind = data[start]
        self._at = end + 2
        if kind in (_STRING, _LIST):
            size = self._number(start + 1, end)
            if size == -1:
                return None
            return self._string(kind, size) if kind == _STRING else self._open(kind, size)
        if kind == _NUMBER:
            return self._number(start + 1, end)
        if kind in (_PUSH, _SET, _MAP):
            return self._open(kind, self._number(start + 1, end))
        if kind in (_BULK_ERROR, _VERBATIM):
            return self._string(kind, self._number(start + 1, end))
        return _simple(kind, data[start + 1 : end])

    def _number(self, start: int, end: int) -> int:
        """The number between two offsets."""
        data, value = self._data, 0
        negative = data[start] == 45
        if negative:
            start += 1
        if not 0 < end - start <= _DIGITS:
            raise ValueError("a number of no or too many digits")
        for index in range(start, end):
            digit = data[index] - 48
            if not 0 <= digit <= 9:
                raise ValueError("a number with something else in it")
            value = value * 10 + digit
        return -value if negative else value

    def _open(self, kind: int, count: int) -> Any:
        """Begin a list; returns it if it is empty, else _OPENED."""
        if kind == _MAP:
            count *= 2
        if not 0 <= count <= self._elements or self._depth >= DEEPEST or (kind == _PUSH and self._depth):
            raise ValueError("a list too long or too deep")
        values: list[Any] = [] if kind in (_LIST, _SET) else Push() if kind == _PUSH else Map()
        if count == 0:
            return values
        self._elements -= count
        if self._depth:
            self._around.append((self._values, self._missing))
        self._depth += 1
        self._values, self._missing = values, count
        return _OPENED

    def _string(self, kind: int, size: int) -> Any:
        """Begin a string; returns it if it has arrived completely, else MORE."""
        data, start = self._data, self._at
        if size < 0:
            raise ValueError("a string of negative size")
        self._kept = size <= self._longest_string and size <= self._octets
        if self._kept:
            self._octets -= size
            end = start + size
            if len(data) >= end + 2:
                if data[end] != 13 or data[end + 1] != 10:
                    raise ValueError("a string longer than it says")
                self._at = end + 2
                return data[start:end] if kind == _STRING else _odd_string(kind, data[start:end])
        self._kind, self._size, self._rest = kind, size, size + 2
        return self._rest_of_string()

    def _rest_of_string(self) -> Any:
        """Continue a string; returns it once it has arrived completely, else MORE."""
        data, start = self._data, self._at
        end = min(start + self._rest, len(data))
        self._at = end
        self._rest -= end - start
        if self._kept:
            self._part += data[start:end]
        if self._rest:
            return _MORE
        kind, part = self._kind, self._part
        self._kind, self._part = 0, bytearray()
        if not self._kept:
            return hiredis.ReplyError(f"TOOLARGE a string of {self._size} octets")
        if part[-2:] != b"\r\n":
            raise ValueError("a string longer than it says")
        del part[-2:]
        return bytes(part) if kind == _STRING else _odd_string(kind, bytes(part))


def _odd_string(kind: int, text: bytes) -> Any:
    """The value of a bulk error, or of a verbatim string without its format."""
    return hiredis.ReplyError(text.decode("utf-8", "replace")) if kind == _BULK_ERROR else text[4:]


def _simple(kind: int, text: bytes) -> Any:
    """The value of a line that has no size: a status, error, null, boolean or double."""
    if kind == _STATUS:
        return text
    if kind == _ERROR:
        return hiredis.ReplyError(text.decode("utf-8", "replace"))
    if kind == _NULL:
        return None
    if kind == _BOOLEAN and text in (b"t", b"f"):
        return text == b"t"
    if kind == _DOUBLE and len(text) <= 32:
        return float(text)
    raise ValueError(f"{bytes((kind,))!r} where a reply should begin")
