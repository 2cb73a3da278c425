"""The HTTP/2 of one connection, by h2, without what h2 does again for each query and need not do for ours."""

from __future__ import annotations

from collections.abc import Sized

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes

from rdnscache.upstream.http2_headers import RememberingDecoder, RememberingEncoder

#: Octets of the headers of a response, of one response with its padding, of all together that may be on their way.
MAX_HEADERS, MAX_BODY, WINDOW = 8192, 1 << 17, 1 << 20
#: Streams that are opened until h2 forgets those that have ended.
SWEPT = 64


class Session(H2Connection):
    """Of a client. `streams` has those that are open."""

    def __init__(self, streams: Sized) -> None:
        config = H2Configuration(client_side=True, header_encoding=None)
        config.validate_outbound_headers = config.normalize_outbound_headers = False  # ours are the same each time
        config.validate_inbound_headers = config.normalize_inbound_headers = False  # two are read, none passed on
        super().__init__(config)
        self.encoder, self.decoder = RememberingEncoder(), RememberingDecoder()
        self._taken = streams
        self._opened = 0

    def begin(self) -> None:
        """Say hello, and what we take."""
        self.update_settings({
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: MAX_BODY,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
        })  # fmt: skip
        self.clear_outbound_data_buffer()
        self.local_settings.acknowledge()  # they hold from the beginning, whenever the server has read them
        self.decoder.max_header_list_size = MAX_HEADERS
        self.initiate_connection()
        self.increment_flow_control_window(WINDOW)

    @property
    def open_outbound_streams(self) -> int:
        """What h2 asks before it opens one; it would look at all there are each time, and forget those that have ended.

        That is done now and then.
        """
        self._opened += 1
        if self._opened % SWEPT == 0:
            self._open_streams(1)
        return len(self._taken)
