"""What only an alert tells anybody: flushes that were not confirmed, certificates that end."""

from __future__ import annotations

import os
import signal
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Node, RedisServer, Upstream, attached, command, free_port, numbers, wait_for
from support.admin import get, status_of
from support.certificates import Authority

from rdnscache.upstream.certificates import expiry, expiry_of_file

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


def test_an_unconfirmed_flush_is_counted_once(redis_server: RedisServer) -> None:
    """By the cluster as a whole, however many nodes and workers it has; one that is confirmed is not."""
    ports = [free_port(), free_port()]
    with Upstream() as upstream:
        nodes = [
            Node([upstream.address], redis_server.url, 2, ("--node-id", f"n{number}", "--admin", f"127.0.0.1:{port}"))
            for number, port in enumerate(ports)
        ]
        with nodes[0] as one, nodes[1] as two:
            for node in (one, two):
                wait_for(lambda node=node: attached(node, 2))
            for port in ports:
                wait_for(lambda port=port: status_of(port, "/readyz") == 200)

            def counted() -> float:
                return sum(numbers(port)["flushes_unconfirmed_total"] for port in ports)

            url = ("--redis", redis_server.url)
            assert command("cache", "flush", "a.test", *url).returncode == 0
            stopped = two.children()[-1]
            os.kill(stopped, signal.SIGSTOP)
            try:
                assert command("cache", "flush", "a.test", "--wait", "0.5", *url).returncode == 1
                wait_for(lambda: counted() == 1)
                assert command("policy", "block", "x.test", "--wait", "0.5", *url).returncode == 1
                wait_for(lambda: counted() == 2)
            finally:
                os.kill(stopped, signal.SIGCONT)


def test_when_own_certificates_end(tmp_path: Path) -> None:
    """One towards an upstream is told of, with the file it is in."""
    port, paper = free_port(), Authority(tmp_path).sign("client.test", days=30)
    url = f"tls://127.0.0.1:{free_port()}#dns.test?cert={paper.certificate}&key={paper.key}"
    with Node([url], "none", 1, ("--admin", f"127.0.0.1:{port}")):
        wait_for(lambda: status_of(port, "/readyz") == 200)
        told = numbers(port)[f"certificate_expiry_timestamp_seconds.{paper.certificate}"]
        assert "# TYPE rdnscache_certificate_expiry_timestamp_seconds gauge" in get(port, "/metrics")

    ends = datetime.now(UTC) + timedelta(days=30)
    assert abs(told - ends.timestamp()) < 2 * 86400
    assert told == expiry_of_file(str(paper.certificate))


def test_a_chain_ends_with_its_first(tmp_path: Path) -> None:
    """Whatever of a file ends first makes the connection fail; years from 2050 on are written in another way."""
    authority = Authority(tmp_path)
    short, late = authority.sign("a.test", days=3), authority.sign("b.test", days=40 * 365)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(late.certificate.read_bytes() + short.certificate.read_bytes())

    assert expiry_of_file(str(chain)) == expiry_of_file(str(short.certificate))
    assert datetime.fromtimestamp(expiry_of_file(str(late.certificate)), UTC).year > 2060
    (tmp_path / "none").write_text("nothing")
    with pytest.raises(ValueError, match="no certificate"):
        expiry_of_file(str(tmp_path / "none"))


@given(st.data())
def test_what_is_no_certificate(data: st.DataObject) -> None:
    """Any octets, and a certificate with some of them changed: a moment, or ValueError."""
    whole = bytearray(ssl.PEM_cert_to_DER_cert(_SAMPLE))
    for _ in range(data.draw(st.integers(0, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    for octets in (bytes(whole), data.draw(st.binary(max_size=100))):
        try:
            assert isinstance(expiry(octets), float)
        except ValueError:
            pass


_SAMPLE = """-----BEGIN CERTIFICATE-----
MIIBQjCB6aADAgECAhRt6dlI6INq+7YLJNal8lg5H6ctyTAKBggqhkjOPQQDAjAN
MQswCQYDVQQDDAJjYTAeFw0yNjExMjUxNjAxMjJaFw0yNjExMjkxNjAxMjJaMBEx
DzANBgNVBAMMBmEudGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABI+Gdpxt
ndCAU2Xtp9Zd7XV0ky6L3pftHOVKTNoi9AvjQZ4kQb741NUpRvYlm3euaDkCYuds
DpGY9ETPDyzAzzKjIzAhMAwGA1UdEwEB/wQCMAAwEQYDVR0RBAowCIIGYS50ZXN0
MAoGCCqGSM49BAMCA0gAMEUCIC+c9SEpfmBmd7dBT0SleHr5/l8DKbaC1+tAA2Ny
Kco9AiEA8YfalLLQhbnw7DCIwxZqighuQvro2kykJimrOwykKRw=
-----END CERTIFICATE-----"""
