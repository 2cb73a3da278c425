"""A channel over TLS. The handshake is computed in a thread, the rest in the hub."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from rdnscache.address import Address
from rdnscache.errors import LOCAL, UNREACHABLE, UpstreamFailed
from rdnscache.upstream import handshakes
from rdnscache.upstream.certificates import Identity, pinned, refusal
from rdnscache.upstream.channel import CHUNK, Channel

#: Maximum octets of a handshake that a server may send: certificates have a few thousand.
MAX_HANDSHAKE = 128 << 10
#: Maximum sessions copied in a second: copying one blocks the hub for half a millisecond, and so does resuming it; a
#: whole handshake, which is computed in a thread, blocks it less.
COPIES = 10
#: Seconds for which no session is copied after a server gave none.
NONE_GIVEN = 60.0


@dataclass(slots=True)
class Secured:
    """The state that connections to one server over TLS share."""

    identity: Identity
    context: ssl.SSLContext
    #: The protocol that the server must select (ALPN); empty if any will do.
    protocol: str = ""
    #: The session of the last connection, which the next one resumes (RFC 8446 section 2.2).
    session: ssl.SSLSession | None = None
    #: The number of full and of resumed handshakes.
    full: int = 0
    resumed: int = 0
    #: Sessions copied since the time `since` (monotonic), which may be in the future.
    copied: int = 0
    since: float = 0.0

    def take_session(self) -> ssl.SSLSession | None:
        """The session, which is used once only: else connections could be linked (RFC 8446 appendix C.4)."""
        found, self.session = self.session, None
        return found

    def keep_session(self, tls: ssl.SSLObject, now: float) -> None:
        """Keep the session of a connection that is being closed, if it can be resumed."""
        if now - self.since >= 1.0:
            self.since, self.copied = now, 0
        if now < self.since or self.copied >= COPIES:
            return
        self.copied += 1
        session = tls.session
        if session is not None and (session.has_ticket or tls.version() != "TLSv1.3"):
            self.session = session
        else:
            self.since = now + NONE_GIVEN


@dataclass(slots=True)
class _Shake:
    """A step of a handshake for a thread, and its result."""

    tls: ssl.SSLObject
    done: bool = False
    error: Exception | None = None

    def __call__(self) -> _Shake:
        try:
            self.tls.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            pass
        except Exception as error:
            self.error = error
        return self


class TlsChannel(Channel):
    """`secured` is shared with the other connections to this server."""

    def __init__(
        self,
        address: Address,
        secured: Secured,
        on_open: Callable[[], None],
        on_data: Callable[[bytes], None],
        on_end: Callable[[UpstreamFailed], None],
    ) -> None:
        self._secured = secured
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._shaken = self._shaking = False
        #: Data received while a thread was running, and all octets received before the handshake is done.
        self._meanwhile: list[bytes] = []
        self._octets = 0
        #: The end of the connection, if it came while a thread was running.
        self._after: UpstreamFailed | None = None
        super().__init__(address, on_open, on_data, on_end)

    def _opened(self) -> None:
        secured = self._secured
        try:
            self._tls = secured.context.wrap_bio(
                self._incoming,
                self._outgoing,
                server_hostname=secured.identity.name or None,
                session=secured.take_session(),
            )
        except (OSError, ValueError) as error:
            self._end(UpstreamFailed(f"{self.address}: no TLS: {error}", why=LOCAL))
            return
        self._step()

    def _step(self) -> None:
        """Continue the handshake in a thread, which has exclusive use of the buffers meanwhile."""
        if self._tls is None or self._shaking:
            return
        for data in self._meanwhile:
            self._incoming.write(data)
        self._meanwhile.clear()
        self._shaking = handshakes.of_this_worker().do(_Shake(self._tls), self._stepped)
        if not self._shaking:
            self._end(UpstreamFailed(f"{self.address}: too many TLS handshakes at a time", why=LOCAL))

    def _stepped(self, step: _Shake) -> None:
        self._shaking = False
        if self.closed:
            self._tls = None
            return
        self._send()
        if self.closed:
            return
        if step.error is not None:
            self._end(self._failure(step.error))
        elif step.done:
            self._secure(step.tls)
        elif self._meanwhile:
            self._step()
            return
        if self._after is not None:
            self.ended_by_server = True
            self._end(self._after)

    def _ended(self, reason: str) -> None:
        if self._shaking:  # data received before may tell the reason
            self._after = UpstreamFailed(f"{self.address}: {reason}", why=UNREACHABLE)
        else:
            super()._ended(reason)

    def _secure(self, tls: ssl.SSLObject) -> None:
        """Check the server after the handshake, and open the channel."""
        secured = self._secured
        pins = secured.identity.pins
        wrong = ""
        if pins and not pinned(tls.getpeercert(binary_form=True), pins):
            wrong = "its certificate is refused: its key has none of the pins"
        elif secured.protocol and tls.selected_alpn_protocol() != secured.protocol:
            wrong = f"it does not speak {secured.protocol}"
        if wrong:
            self._end(UpstreamFailed(f"{self.address}: {wrong}", why=UNREACHABLE))
            return
        if tls.session_reused:
            secured.resumed += 1
        else:
            secured.full += 1
        self._shaken = True
        self._on_open()
        for data in self._meanwhile:
            self._incoming.write(data)
        self._meanwhile.clear()
        self._read()

    def _failure(self, error: Exception) -> UpstreamFailed:
        if isinstance(error, ssl.SSLCertVerificationError):
            text = refusal(error, self._secured.identity.name)
        else:
            reason = getattr(error, "reason", None) or str(error)
            text = f"no TLS handshake: {reason.replace('_', ' ').lower()}"
        return UpstreamFailed(f"{self.address}: {text}", why=UNREACHABLE)

    def _received(self, data: bytes) -> None:
        if self._shaken:
            self._incoming.write(data)
            self._read()
            return
        self._octets += len(data)
        if self._octets > MAX_HANDSHAKE:
            self._end(UpstreamFailed(f"{self.address}: too many octets in a TLS handshake", why=UNREACHABLE))
            return
        self._meanwhile.append(data)
        self._step()

    def _read(self) -> None:
        """Decrypt all data received, which is at most one read."""
        tls, parts, failure = self._tls, [], None
        if tls is None or self.closed:
            return
        try:
            while part := tls.read(CHUNK):
                parts.append(part)
            failure = UpstreamFailed(f"{self.address}: closed by the peer", why=UNREACHABLE)
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            failure = UpstreamFailed(f"{self.address}: TLS: {error}", why=UNREACHABLE)
        if self._outgoing.pending:
            self._send()  # such as a key update
        if parts:
            self._on_data(b"".join(parts))
        if failure is not None and not self.closed:
            self.ended_by_server = True
            self._end(failure)

    def write(self, data: bytes) -> None:
        if self._tls is not None and self._shaken and not self.closed:
            self._tls.write(data)
            self._send()

    def _send(self) -> None:
        if self._outgoing.pending:
            super().write(self._outgoing.read())

    def close(self) -> None:
        tls = self._tls
        if self.closed:
            return
        if tls is not None and self._shaken:
            self._secured.keep_session(tls, time.monotonic())
            try:
                tls.unwrap()
            except OSError:  # the peer need not reply to close_notify
                pass
            if self._stream is not None and not self.ended_by_server:
                on_end, self._on_end = self._on_end, lambda _: None
                self._shaken = False
                self._send()
                self._on_end = on_end
        if not self._shaking:
            self._tls = None
        super().close()
