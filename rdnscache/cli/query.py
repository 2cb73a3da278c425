"""`rdnscache query`: one question to a server, its reply for people or as JSON."""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Any

import click

from rdnscache.address import Address
from rdnscache.cli.output import echo, echo_json
from rdnscache.clients.proxy import build_proxy
from rdnscache.dns.names import class_number, class_text, name_text, parse_name, rcode_text, type_number, type_text
from rdnscache.dns.question import VARIANT_CD, VARIANT_DO, qclass, qtype, question_key
from rdnscache.dns.text import extended_errors, section_texts
from rdnscache.dns.wire import TCP_SIZE, TRACE_OPTION, Reply, build_query, parse_reply

#: UDP is tried this often, waiting this many seconds each time.
TRIES, TIMEOUT = 2, 5.0
_FLAGS = ((0x0400, "aa"), (0x0200, "tc"), (0x0100, "rd"), (0x0080, "ra"), (0x0020, "ad"), (0x0010, "cd"))


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
    started = time.monotonic()
    try:
        options = TRACE_OPTION.to_bytes(2, "big") + b"\0\0" if trace else b""
        reply, words = ask(address, build_query(os.urandom(2), key, True, options), tcp, asker)
    except OSError as error:
        echo(f"rdnscache: no reply from {address}: {error.strerror or error}", err=True)
        sys.exit(1)
    took = round((time.monotonic() - started) * 1000, 1)
    if as_json:
        echo_json(_as_json(key, reply, words, address, took))
    else:
        echo(*_as_text(key, reply, words, address, took))


def ask(address: Address, message: bytes, tcp: bool, client: Address | None) -> tuple[Reply, list[str]]:
    """The reply, over TCP when it was cut, and its Extended DNS Errors; in the name of a client, if there is one.

    Raises OSError when there is none.
    """
    if not tcp:
        for _ in range(TRIES):
            try:
                reply, data = _ask_udp(address, message, _header(client, stream=False))
            except TimeoutError:
                continue
            if not reply.truncated:
                return reply, extended_errors(reply, data)
            break
        else:
            raise TimeoutError("timed out")
    with socket.create_connection((address.host, address.port), TIMEOUT) as sock, sock.makefile("rb") as stream:
        sock.sendall(_header(client, stream=True) + len(message).to_bytes(2, "big") + message)
        data = stream.read(int.from_bytes(stream.read(2), "big"))
    found = parse_reply(data)
    if found is None or data[:2] != message[:2]:
        raise OSError("the reply is malformed")
    return found, extended_errors(found, data)


def _header(client: Address | None, stream: bool) -> bytes:
    """What a balancer puts in front of a query, or of a connection."""
    if client is None:
        return b""
    source = socket.inet_pton(client.family, client.host)
    return build_proxy(source, client.port, bytes(len(source)), 0, stream)


def _ask_udp(address: Address, message: bytes, header: bytes) -> tuple[Reply, bytes]:
    deadline = time.monotonic() + TIMEOUT
    with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
        sock.connect(address.sockaddr)
        sock.send(header + message)
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            data = sock.recv(TCP_SIZE)
            reply = parse_reply(data)
            if reply is not None and data[:2] == message[:2]:
                return reply, data
    raise TimeoutError("timed out")


def _flags(reply: Reply) -> list[str]:
    return [text for bit, text in _FLAGS if reply.flags & bit]


def _as_text(key: bytes, reply: Reply, words: list[str], address: Address, took: float) -> list[str]:
    lines = [f";; {rcode_text(reply.rcode)}, flags {' '.join(_flags(reply))}, {took} ms from {address}"]
    lines += [f";; {text}" for text in words]
    lines.append(f";{name_text(key)} {class_text(qclass(key))} {type_text(qtype(key))}")
    for title, section in zip(("answer", "authority", "additional"), section_texts(reply), strict=True):
        if section:
            lines += [f";; {title}", *section]
    return lines


def _as_json(key: bytes, reply: Reply, words: list[str], address: Address, took: float) -> dict[str, Any]:
    answer, authority, additional = section_texts(reply)
    return {
        "name": name_text(key),
        "type": type_text(qtype(key)),
        "rcode": rcode_text(reply.rcode),
        "flags": _flags(reply),
        "extended": words,
        "answer": answer,
        "authority": authority,
        "additional": additional,
        "server": str(address),
        "ms": took,
    }
