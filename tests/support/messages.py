"""DNS messages by dnspython: queries, and replies of upstreams."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset

#: What an upstream sends: octets as they are, a message that is encoded for the transport, or nothing.
Reply = bytes | dns.message.Message | None
Handler = Callable[[dns.message.Message, str], "Reply | list[bytes]"]


def ask(
    port: int, name: Any, rtype: Any = "A", *, tcp: bool = False, timeout: float = 4.0, tries: int = 1,
    host: str = "127.0.0.1", source: str | None = None, **make_query_kwargs: Any,
) -> dns.message.Message:  # fmt: skip
    """The reply of a server to one question; `name` may be a text or a dns.name.Name."""
    query = dns.message.make_query(name, rtype, **make_query_kwargs)
    for left in reversed(range(tries)):
        try:
            if tcp:
                return dns.query.tcp(query, host, timeout, port, source=source)
            # a late reply to an earlier socket may reach the port that was its, and is ours now
            return dns.query.udp(query, host, timeout, port, source=source, ignore_unexpected=True)
        except (dns.exception.Timeout, OSError):
            if not left:
                raise
    raise AssertionError("tries is 0")


def rcode_of(port: int, name: str, rtype: str = "A", rdclass: str = "IN", host: str = "127.0.0.1") -> str:
    """The RCODE of a server that is being started; empty if there is no reply, at once if nobody listens yet."""
    query = dns.message.make_query(name, rtype, rdclass)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect((host, port))  # so that the kernel reports that nobody listens
            return dns.rcode.to_text(dns.query.udp(query, host, 0.5, port, sock=sock).rcode())
        except (dns.exception.Timeout, OSError):
            return ""


def answer(query: dns.message.Message, *records: str) -> dns.message.Message:
    """A reply with records for the question's name, each a text such as `300 A 192.0.2.1`."""
    reply = dns.message.make_response(query, recursion_available=True)
    for text in records:
        ttl, rtype, rdata = text.split(" ", 2)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, int(ttl), "IN", rtype, rdata))
    return reply


def negative(query: dns.message.Message, rcode: int = dns.rcode.NXDOMAIN, ttl: int = 300) -> dns.message.Message:
    """An NXDOMAIN or NODATA reply with the SOA that lets it be cached."""
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    zone = query.question[0].name.labels[-2:]
    soa = dns.rrset.from_text(dns.name.Name(zone), ttl, "IN", "SOA", f"ns. host. 1 3600 600 86400 {ttl}")
    reply.authority.append(soa)
    return reply


def failure(query: dns.message.Message, rcode: int = dns.rcode.SERVFAIL) -> dns.message.Message:
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    return reply


def says(rcode: int, ede: int = -1) -> Handler:
    """A handler that answers with an RCODE and no records, and perhaps an Extended DNS Error."""

    def handler(query: dns.message.Message, transport: str) -> dns.message.Message:
        reply = failure(query, rcode)
        if ede >= 0:
            reply.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.make(ede))])
        return reply

    return handler


def cut_off(query: dns.message.Message, transport: str) -> dns.message.Message:
    """A handler whose replies are truncated, over TCP too."""
    reply = answer(query)
    reply.flags |= dns.flags.TC
    return reply


def default_handler(query: dns.message.Message, transport: str) -> Reply:
    """A: 192.0.2.1; NXDOMAIN for names under `nx.`; NODATA for other types."""
    question = query.question[0]
    if question.name.labels[-2:-1] == (b"nx",):
        return negative(query)
    if question.rdtype == dns.rdatatype.A:
        return answer(query, "300 A 192.0.2.1")
    return negative(query, dns.rcode.NOERROR)


def refusing(query: dns.message.Message, transport: str) -> dns.message.Message:
    """A handler that refuses all queries."""
    return failure(query, dns.rcode.REFUSED)


def timed(port: int, name: str) -> tuple[dns.message.Message, float]:
    """A reply, and how many seconds it took."""
    began = time.monotonic()
    return ask(port, name, timeout=10, use_edns=0), time.monotonic() - began


def addresses(reply: dns.message.Message) -> list[str]:
    """The addresses of an answer."""
    return [record.address for rrset in reply.answer for record in rrset]


def address(reply: dns.message.Message) -> str:
    """The first record of an answer that must be a good one."""
    assert reply.rcode() == dns.rcode.NOERROR
    return str(reply.answer[0][0])


def answer_of(port: int, name: str, **how: Any) -> str:
    """The first record a server answers with."""
    return str(ask(port, name, **how).answer[0][0])


def extended_errors(reply: dns.message.Message) -> list[int]:
    """The codes of a reply's Extended DNS Errors (RFC 8914)."""
    return [int(option.code) for option in reply.options if isinstance(option, dns.edns.EDEOption)]


def key_of(name: str, rtype: int = 1) -> bytes:
    """The key of a question in class IN without DO and CD."""
    return dns.name.from_text(name).to_digestable() + rtype.to_bytes(2, "big") + b"\0\1\0"
