"""`rdnscache query`: ask a server, and print its replies as text or JSON."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rdnscache.address import Address
from rdnscache.cli.completion import types
from rdnscache.cli.completion import words as words_of
from rdnscache.cli.node_file import config_option
from rdnscache.cli.output import echo, echo_items, json_options
from rdnscache.cli.question_words import Words, find_server, one_name, reverse_name, sort_out
from rdnscache.clients.proxy import build_proxy
from rdnscache.dns.names import class_number, class_text, name_text, parse_name, rcode_text, type_number, type_text
from rdnscache.dns.question import VARIANT_CD, VARIANT_DO, qclass, qtype, question_key
from rdnscache.dns.wire import TCP_SIZE, TRACE_OPTION
from rdnscache.errors import ConfigError

if TYPE_CHECKING:
    from dnslib import DNSRecord

#: Attempts over UDP, and seconds to wait for each reply.
TRIES, TIMEOUT = 2, 5.0
_FLAGS = ("aa", "tc", "rd", "ra", "ad", "cd")


@click.command()
@click.argument("words", metavar="[@SERVER] NAME [TYPE]...", nargs=-1, shell_complete=words_of)
@click.option(
    "--server", metavar="ADDR[:PORT]", default="127.0.0.1:5300", envvar="RDNSCACHE_SERVER", show_default=True,
    help="The server to ask, an address or a name; the same as @SERVER.",
)  # fmt: skip
@click.option("-p", "--port", metavar="PORT", type=click.IntRange(1, 65535), help="Its port, if SERVER has none.")
@click.option(
    "-t", "--type", "rtypes", metavar="TYPE", multiple=True, shell_complete=types, help="The same as the word TYPE."
)
@click.option("-x", "--reverse", metavar="ADDR", help="Ask for the name of this address, instead of NAME.")
@click.option("--short", is_flag=True, help="Print only the data of the answers; the same as +short.")
@click.option("--tcp", is_flag=True, help="Ask over TCP; the same as +tcp.")
@click.option("--do", "want_dnssec", is_flag=True, help="Ask for DNSSEC records; the same as +dnssec.")
@click.option("--cd", "no_checking", is_flag=True, help="Set the CD flag; the same as +cd.")
@click.option(
    "--class",
    "klass",
    metavar="CLASS",
    default="IN",
    show_default=True,
    help="Such as CH; same as a word.",
)
@click.option("--trace", is_flag=True, help="Also show where the node got the answer.")
@click.option("--client", metavar="ADDR", help="Send a PROXY v2 header with this client's address, as a balancer does.")
@json_options
@config_option
@click.pass_context
def query(
    ctx: click.Context,
    words: tuple[str, ...],
    server: str,
    port: int | None,
    rtypes: tuple[str, ...],
    reverse: str | None,
    short: bool,
    tcp: bool,
    want_dnssec: bool,
    no_checking: bool,
    klass: str,
    trace: bool,
    client: str | None,
    as_json: str,
) -> None:
    """Ask a server for NAME, with the given TYPEs or A; words may come in any order, as with dig.

    \b
    rdnscache query example.com
    rdnscache query @192.0.2.1 AAAA example.com
    rdnscache query @ns.example#5353 -x 192.0.2.7 +short

    SERVER is an address or a name, with an optional port after '#' or ':'; the default is 53.

    Exit code 1 when there is no reply.
    """
    try:
        asked = sort_out(words, reverse is None)
        asked.types += rtypes
        flags = {"short": short, "tcp": tcp, "do": want_dnssec, "cd": no_checking} | asked.flags
        bits = (VARIANT_DO if flags["do"] else 0) | (VARIANT_CD if flags["cd"] else 0)
        keys = _keys(asked, reverse, klass, bits)
        given = ctx.get_parameter_source("server") is ParameterSource.COMMANDLINE
        addresses = _servers(asked.servers, server, given, port)
        asker = Address.parse(client, 0) if client else None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        echo(f"rdnscache: no address of {(asked.servers or [server])[0]}: {error.strerror}", err=True)
        sys.exit(1)
    replies = (_told(key, addresses, flags["tcp"], trace, asker) for key in keys)
    try:
        if as_json:
            echo_items(replies, as_json)
        else:
            _print(keys, replies, flags["short"])
    except NoReply as error:
        echo(f"rdnscache: {error}", err=True)
        sys.exit(1)


class NoReply(Exception):
    """The server has not answered."""


def _keys(asked: Words, reverse: str | None, klass: str, bits: int) -> list[bytes]:
    """The questions. Raises ValueError."""
    if reverse is not None and asked.names:
        raise ValueError(f"give a NAME or -x, not both: {asked.names[0]}")
    name = parse_name(one_name(asked.names) if reverse is None else reverse_name(reverse))
    number = class_number([klass, *asked.classes][-1])
    types = asked.types or ["PTR" if reverse is not None else "A"]
    return [question_key(name, rtype, number, bits) for rtype in dict.fromkeys(map(type_number, types))]


def _servers(named: list[str], server: str, given: bool, port: int | None) -> list[Address]:
    """The server to ask. A port on the command line applies when the server has none, or is the default one."""
    if len(named) + given > 1:
        raise ValueError("one server at a time")
    if named or given:
        return find_server(named[0] if named else server, port)
    return [replace(address, port=port or address.port) for address in find_server(server, None)]


def _print(keys: list[bytes], replies: Iterable[dict[str, Any]], short: bool) -> None:
    for number, (key, told) in enumerate(zip(keys, replies, strict=True)):
        if not short:
            echo(*([""] if number else []), *_as_text(key, told))
            continue
        echo(*(line.split(" ", 4)[-1] for line in told["answer"]))
        if told["rcode"] != "NOERROR":
            echo(f"rdnscache: {told['name']} {told['type']}: {told['rcode']}", err=True)


def ask(address: Address, query: bytes, tcp: bool, client: Address | None) -> DNSRecord:
    """The reply, over TCP if it was truncated; for a client, if one is given. Raises OSError when there is none."""
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
    """The reply, if it belongs to the query."""
    from rdnscache.dns.message import read

    return read(data) if data[:2] == query[:2] else None


def _header(client: Address | None, stream: bool) -> bytes:
    """The header that a balancer puts in front of a query, or of a connection."""
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


def _told(
    key: bytes, addresses: list[Address], tcp: bool, trace: bool, client: Address | None
) -> dict[str, Any]:  # fmt: skip
    """Ask, and return a description of the reply. Raises NoReply."""
    from rdnscache.dns.message import build_query, extended_errors, lines, rcode

    message = build_query(int.from_bytes(os.urandom(2), "big"), key, [TRACE_OPTION] if trace else [])
    for number, address in enumerate(addresses, 1):
        started = time.monotonic()
        try:
            reply = ask(address, message, tcp, client)
            break
        except OSError as error:
            if number == len(addresses):
                raise NoReply(f"no reply from {address}: {error.strerror or error}") from None
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
        "ms": round((time.monotonic() - started) * 1000, 1),
    }


def _as_text(key: bytes, told: dict[str, Any]) -> list[str]:
    lines = [f";; {told['rcode']}, flags {' '.join(told['flags'])}, {told['ms']} ms from {told['server']}"]
    lines += [f";; {text}" for text in told["extended"]]
    lines.append(f";{told['name']} {class_text(qclass(key))} {told['type']}")
    for section in ("answer", "authority", "additional"):
        if told[section]:
            lines += [f";; {section}", *told[section]]
    return lines
