"""The HTTP/2 state of one connection by h2, without work that h2 repeats for each query and our queries do not need."""

from __future__ import annotations

from collections.abc import Sized

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes

from rdnscache.upstream.http2_headers import RememberingDecoder, RememberingEncoder

#: Maximum octets of the headers of a response, of a response with its padding, and of all responses in flight.
MAX_HEADERS, MAX_BODY, WINDOW = 8192, 1 << 17, 1 << 20
#: Number of new streams after which h2 forgets those that have ended.
SWEPT = 64


class Session(H2Connection):
    """The client's side. `streams` contains the open streams."""

    def __init__(self, streams: Sized) -> None:
        config = H2Configuration(client_side=True, header_encoding=None)
        config.validate_outbound_headers = config.normalize_outbound_headers = False  # ours are the same each time
        config.validate_inbound_headers = config.normalize_inbound_headers = False  # two are read, none passed on
        super().__init__(config)
        self.encoder, self.decoder = RememberingEncoder(), RememberingDecoder()
        self._taken = streams
        self._opened = 0

    def begin(self) -> None:
        """Queue the connection preface and our settings."""
        self.update_settings({
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: MAX_BODY,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
        })  # fmt: skip
        self.clear_outbound_data_buffer()
        self.local_settings.acknowledge()  # they apply at once, before the server has acknowledged them
        self.decoder.max_header_list_size = MAX_HEADERS
        self.initiate_connection()
        self.increment_flow_control_window(WINDOW)

    @property
    def open_outbound_streams(self) -> int:
        """The number of open streams, which h2 wants to know before it opens one.

        h2 would count all of its streams and remove those that have ended each time; that is done now and then.
        """
        self._opened += 1
        if self._opened % SWEPT == 0:
            self._open_streams(1)
        return len(self._taken)
