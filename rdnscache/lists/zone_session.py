"""A query to the server of a zone, with an answer of many messages, as a transfer has it (RFC 5936)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rdnscache.dns.names import name_text, rcode_text, type_text
from rdnscache.dns.wire import CNAME, NOERROR, SOA
from rdnscache.dns.zones import is_below
from rdnscache.errors import ConfigError
from rdnscache.rpz_source import RpzSource

IXFR, AXFR = 251, 252
#: Most records and octets of an answer.
MOST_RECORDS, MOST_OCTETS = 10_000_000, 1 << 30
#: Time limits in seconds: for connecting, for a message, for the whole answer.
CONNECTING, READING, LASTING = 10.0, 30.0, 600.0
#: Octets read at a time.
_CHUNK = 1 << 17
#: Most consecutive messages without a signature (RFC 8945 section 5.3.1).
_UNSIGNED = 99


class TransferError(Exception):
    """A transfer has failed; the text is the reason."""


class NotIncremental(TransferError):
    """The server does not send changes: a full transfer is needed."""


class Record(NamedTuple):
    """The name is on the wire and in lower case, the data are without compression."""

    name: bytes
    rtype: int
    ttl: int
    rdata: bytes

    def line(self) -> bytes:
        """In zone-file text."""
        if self.rtype == CNAME:
            data = _text(self.rdata)
        else:
            data = f"\\# {len(self.rdata)} {self.rdata.hex()}"
        return f"{_text(self.name)} {self.ttl} {type_text(self.rtype)} {data}\n".encode()


def _text(name: bytes) -> str:
    """A name in zone-file form: an asterisk is not escaped."""
    return f"*.{name_text(name[2:]).removeprefix('.')}" if name.startswith(b"\1*") else name_text(name)


def require_dnspython() -> None:
    """ConfigError where it is missing."""
    try:
        import dns.message  # noqa: F401
    except ImportError:
        raise ConfigError("to transfer zones, dnspython is needed: pip install 'rdnscache[rpz]'") from None


class Session:
    """`breathe` is called between short steps. Every method raises TransferError or OSError."""

    def __init__(
        self, source: RpzSource, zone: bytes, rtype: int, breathe: Callable[[], None], serial: int = 0
    ) -> None:
        import dns.message  # needed only to transfer zones
        import dns.name
        import dns.rdatatype
        import dns.rrset
        import dns.tsig

        assert source.server is not None
        self._breathe = breathe
        self._zone = zone
        self._rtype = rtype
        self._deadline = time.monotonic() + LASTING
        #: Octets received but not processed yet.
        self._read = bytearray()
        self._octets = self._count = self._unsigned = 0
        name = dns.name.from_wire(zone, 0)[0]
        self._query = query = dns.message.make_query(name, dns.rdatatype.RdataType.make(rtype), flags=0)
        if rtype == IXFR:
            query.authority.append(dns.rrset.from_text(name, 0, "IN", "SOA", f". . {serial} 0 0 0 0"))
        self._key: Any = None
        if source.key is not None:
            self._key = dns.tsig.Key(source.key.name, source.key.secret, source.key.algorithm)
            query.use_tsig(self._key)
        wire = query.to_wire()
        self._sock = socket.socket(source.server.family, socket.SOCK_STREAM)
        try:
            self._sock.settimeout(CONNECTING)
            self._sock.connect(source.server.sockaddr)
            self._sock.settimeout(READING)
            self._sock.sendall(len(wire).to_bytes(2, "big") + wire)
        except BaseException:
            self._sock.close()
            raise

    def close(self) -> None:
        self._sock.close()

    def records(self) -> Iterator[Record]:
        """The records of all answer sections, until the caller stops. See `end`."""
        import dns.exception
        import dns.message

        context: Any = None
        number = 0
        while True:
            self._breathe()
            wire = self._message()
            try:
                message = dns.message.from_wire(wire, self._key, self._query.mac, xfr=True, tsig_ctx=context,
                                                multi=self._rtype != SOA, one_rr_per_rrset=True)  # fmt: skip
            except (dns.exception.DNSException, ValueError) as error:
                raise TransferError(f"a message cannot be used: {error}") from None
            context = message.tsig_ctx
            self._check(message, number)
            number += 1
            for rrset in message.answer:
                self._count += 1
                if self._count > MOST_RECORDS:
                    raise TransferError(f"there are more than {MOST_RECORDS} records")
                name = bytes(rrset.name.to_wire() or b"").lower()
                if is_below(name, self._zone) and rrset.rdclass == 1 and len(rrset):
                    rdata = rrset[0].to_wire()
                    assert rdata is not None  # without a file to write it into, it is returned
                    if rrset.rdtype == CNAME:
                        rdata = rdata.lower()
                    yield Record(name, int(rrset.rdtype), rrset.ttl, rdata)

    def end(self) -> None:
        """The answer is complete. Its last message has to be signed (RFC 8945 section 5.3.1)."""
        if self._key is not None and self._unsigned:
            raise TransferError("the last message is not signed")

    def _message(self) -> bytes:
        try:
            size = int.from_bytes(self._exactly(2), "big")
        except TransferError as error:
            if self._rtype == IXFR and not self._count:
                raise NotIncremental(str(error)) from None
            raise
        self._octets += size
        if self._octets > MOST_OCTETS:
            raise TransferError(f"it has more than {MOST_OCTETS} octets")
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            if time.monotonic() > self._deadline:
                raise TransferError(f"it has taken more than {LASTING:.0f} s")
            data = self._sock.recv(_CHUNK)
            if not data:
                raise TransferError("the server has ended the connection")
            self._read += data
        data = bytes(self._read[:size])
        del self._read[:size]
        return data

    def _check(self, message: Any, number: int) -> None:
        """Check that a message answers the question, and is signed if required."""
        if message.rcode() != NOERROR:
            reason = f"the server says {rcode_text(message.rcode())}"
            raise NotIncremental(reason) if self._rtype == IXFR else TransferError(reason)
        if message.id != self._query.id or not message.flags & 0x8000 or (
            message.question != self._query.question and (message.question or not number)
        ):  # fmt: skip
            raise TransferError("a message does not answer the question")
        if self._key is not None:
            self._unsigned = 0 if message.had_tsig else self._unsigned + 1
            if self._unsigned > (_UNSIGNED if number else 0):
                raise TransferError("a message lacks the required signature")
