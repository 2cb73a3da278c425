"""A connection under TLS. The handshake is computed in a thread, what follows in the hub."""

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

#: Octets of a handshake that a server may send: certificates have a few thousand.
MAX_HANDSHAKE = 128 << 10
#: Sessions that are copied in a second, at most: ssl takes the hub half a millisecond to copy one, and as long to take
#: it up, more than a whole handshake does, which is computed elsewhere.
COPIES = 10
#: Seconds for which no session is looked for where the server gave none.
NONE_GIVEN = 60.0


@dataclass(slots=True)
class Secured:
    """What the connections to one server over TLS share."""

    identity: Identity
    context: ssl.SSLContext
    #: Where the protocol has to be agreed on (ALPN), its name.
    protocol: str = ""
    #: Of the last connection, for the next one to resume (RFC 8446 section 2.2).
    session: ssl.SSLSession | None = None
    #: Handshakes in full, and resumed.
    full: int = 0
    resumed: int = 0
    #: Sessions copied since this moment (monotonic), which may be still to come.
    copied: int = 0
    since: float = 0.0

    def take_session(self) -> ssl.SSLSession | None:
        """Each once, or the connections could be told to belong together (RFC 8446 appendix C.4)."""
        found, self.session = self.session, None
        return found

    def keep_session(self, tls: ssl.SSLObject, now: float) -> None:
        """That of a connection which is at its end, if there is one to resume."""
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
    """One step: what it may use of the connection, and what came of it."""

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
        #: What has come while a thread was at work, and how much has come in all, before the handshake is done.
        self._meanwhile: list[bytes] = []
        self._octets = 0
        #: How the connection has ended while a thread was at work.
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
        """Go on with the handshake in a thread, which has the buffers for itself until then."""
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
        if self._shaking:  # what came before the end says why
            self._after = UpstreamFailed(f"{self.address}: {reason}", why=UNREACHABLE)
        else:
            super()._ended(reason)

    def _secure(self, tls: ssl.SSLObject) -> None:
        """The handshake is done."""
        secured = self._secured
        pins = secured.identity.pins
        wrong = ""
        if pins and not pinned(tls.getpeercert(binary_form=True), pins):
            wrong = "its certificate is refused: its key is none of those pinned"
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
            self._end(UpstreamFailed(f"{self.address}: a TLS handshake without an end", why=UNREACHABLE))
            return
        self._meanwhile.append(data)
        self._step()

    def _read(self) -> None:
        """Decrypt all that has come: at most what was read in one go."""
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
            self._send()  # a key update
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
            except OSError:  # the other side need not answer
                pass
            if self._stream is not None and not self.ended_by_server:
                on_end, self._on_end = self._on_end, lambda _: None
                self._shaken = False
                self._send()
                self._on_end = on_end
        if not self._shaking:
            self._tls = None
        super().close()
