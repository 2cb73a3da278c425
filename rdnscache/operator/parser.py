"""Our reader of replies in place of the one redis-py uses, which makes room for whatever a server announces."""

from __future__ import annotations

from typing import Any

import hiredis
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _HiredisParser
from redis.exceptions import InvalidResponse

from rdnscache.store.resp import MORE, Map, Push, Reader


class BoundedParser(_HiredisParser):
    """redis-py's parser, private to it (see docs/decisions.md), over our reader."""

    def on_connect(self, connection: Any, **more: Any) -> None:
        super().on_connect(connection, **more)  # type: ignore[no-untyped-call]
        encoder = connection.encoder
        self._reader = _Reader(self, encoder.encoding if encoder.decode_responses else "", encoder.encoding_errors)


class _Reader:
    """What the parser calls as if it were hiredis. With an encoding, strings are decoded."""

    def __init__(self, parser: BoundedParser, encoding: str, errors: str) -> None:
        self._parser = parser
        self._encoding = encoding
        self._errors = errors
        self._reader = Reader()

    def feed(self, data: bytearray, start: int, size: int) -> None:
        self._reader.feed(bytes(data[start : start + size]))

    def has_data(self) -> bool:
        return self._reader.has_data()

    def gets(self, decode: bool = True) -> Any:
        try:
            value = self._reader.gets()
            return NOT_ENOUGH_DATA if value is MORE else self._converted(value, decode and bool(self._encoding))
        except (ValueError, TypeError) as error:
            raise InvalidResponse(f"Protocol error: {error}") from None

    def _converted(self, value: Any, decode: bool) -> Any:
        if isinstance(value, bytes):
            return value.decode(self._encoding, self._errors) if decode else value
        if isinstance(value, hiredis.ReplyError):
            return self._parser.parse_error(str(value))  # type: ignore[no-untyped-call]
        if not isinstance(value, list):
            return value
        parts = [self._converted(part, decode) for part in value]
        if isinstance(value, Map):
            return dict(zip(parts[::2], parts[1::2], strict=True))
        return hiredis.PushNotification(parts) if isinstance(value, Push) else parts
