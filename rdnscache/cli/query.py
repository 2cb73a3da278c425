"""`rdnscache query`: one question to a server, its reply for people or as JSON."""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from rdnscache.address import Address
from rdnscache.cli.node_file import config_option
from rdnscache.cli.output import echo, echo_json
from rdnscache.clients.proxy import build_proxy
from rdnscache.dns.names import class_number, class_text, name_text, parse_name, rcode_text, type_number, type_text
from rdnscache.dns.question import VARIANT_CD, VARIANT_DO, qclass, qtype, question_key
from rdnscache.dns.wire import TCP_SIZE, TRACE_OPTION

if TYPE_CHECKING:
    from dnslib import DNSRecord

#: UDP is tried this often, waiting this many seconds each time.
TRIES, TIMEOUT = 2, 5.0
_FLAGS = ("aa", "tc", "rd", "ra", "ad", "cd")


@click.command()
@click.argument("name")
@click.argument("rtype", metavar="[TYPE]", default="A")
@click.option(
    "--server", metavar="ADDR[:PORT]", default="127.0.0.1:5300", envvar="RDNSCACHE_SERVER", show_default=True,
    help="Whom to ask.",
)  # fmt: skip
@click.option("--tcp", is_flag=True, help="Ask over TCP.")
@click.option("--do", "want_dnssec", is_flag=True, help="Ask for DNSSEC records.")
@click.option("--cd", "no_checking", is_flag=True, help="Set the CD flag.")
@click.option("--class", "klass", metavar="CLASS", default="IN", show_default=True, help="Such as CH.")
@click.option("--trace", is_flag=True, help="Ask the node where the answer comes from.")
@click.option("--client", metavar="ADDR", help="Say that this client asks, in a PROXY v2 header, as a balancer does.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def query(
    name: str, rtype: str, server: str, tcp: bool, want_dnssec: bool, no_checking: bool, klass: str, trace: bool,
    client: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Ask a server for NAME, of TYPE A unless given. Exit code 1 when no reply comes."""
    try:
        address = Address.parse(server, 53)
        bits = (VARIANT_DO if want_dnssec else 0) | (VARIANT_CD if no_checking else 0)
        key = question_key(parse_name(name), type_number(rtype), class_number(klass), bits)
        asker = Address.parse(client, 0) if client else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    from rdnscache.dns.message import build_query

    message = build_query(int.from_bytes(os.urandom(2), "big"), key, [TRACE_OPTION] if trace else [])
    started = time.monotonic()
    try:
        reply = ask(address, message, tcp, asker)
    except OSError as error:
        echo(f"rdnscache: no reply from {address}: {error.strerror or error}", err=True)
        sys.exit(1)
    told = _told(key, reply, address, round((time.monotonic() - started) * 1000, 1))
    if as_json:
        echo_json(told)
    else:
        echo(*_as_text(key, told))


def ask(address: Address, query: bytes, tcp: bool, client: Address | None) -> DNSRecord:
    """The reply, over TCP when it was cut; in the name of a client, if there is one. Raises OSError without one."""
    if not tcp:
        for _ in range(TRIES):
            try:
                reply = _ask_udp(address, query, _header(client, stream=False))
            except TimeoutError:
                continue
            if not reply.header.tc:
                return reply
            break
        else:
            raise TimeoutError("timed out")
    with socket.create_connection((address.host, address.port), TIMEOUT) as sock, sock.makefile("rb") as stream:
        sock.sendall(_header(client, stream=True) + len(query).to_bytes(2, "big") + query)
        data = stream.read(int.from_bytes(stream.read(2), "big"))
    found = _read(data, query)
    if found is None:
        raise OSError("the reply is malformed")
    return found


def _read(data: bytes, query: bytes) -> DNSRecord | None:
    """The reply to a query, if it is that."""
    from rdnscache.dns.message import read

    return read(data) if data[:2] == query[:2] else None


def _header(client: Address | None, stream: bool) -> bytes:
    """What a balancer puts in front of a query, or of a connection."""
    if client is None:
        return b""
    source = socket.inet_pton(client.family, client.host)
    return build_proxy(source, client.port, bytes(len(source)), 0, stream)


def _ask_udp(address: Address, query: bytes, header: bytes) -> DNSRecord:
    deadline = time.monotonic() + TIMEOUT
    with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
        sock.connect(address.sockaddr)
        sock.send(header + query)
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            reply = _read(sock.recv(TCP_SIZE), query)
            if reply is not None:
                return reply
    raise TimeoutError("timed out")


def _told(key: bytes, reply: DNSRecord, address: Address, took: float) -> dict[str, Any]:
    from rdnscache.dns.message import extended_errors, lines, rcode

    return {
        "name": name_text(key),
        "type": type_text(qtype(key)),
        "rcode": rcode_text(rcode(reply)),
        "flags": [flag for flag in _FLAGS if getattr(reply.header, flag)],
        "extended": extended_errors(reply),
        "answer": lines(reply.rr),
        "authority": lines(reply.auth),
        "additional": lines(reply.ar),
        "server": str(address),
        "ms": took,
    }


def _as_text(key: bytes, told: dict[str, Any]) -> list[str]:
    lines = [f";; {told['rcode']}, flags {' '.join(told['flags'])}, {told['ms']} ms from {told['server']}"]
    lines += [f";; {text}" for text in told["extended"]]
    lines.append(f";{told['name']} {class_text(qclass(key))} {told['type']}")
    for section in ("answer", "authority", "additional"):
        if told[section]:
            lines += [f";; {section}", *told[section]]
    return lines
