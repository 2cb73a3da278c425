"""Zones transferred from servers: whole, by what has changed, signed, and what goes wrong on the way."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.rcode
import dns.rrset
import dns.tsig
import pytest
from support import wait_for
from support.nsd import Nsd, needs_nsd

from rdnscache.breath import go_on
from rdnscache.lists import transfer as transfers
from rdnscache.lists import zone_session
from rdnscache.lists.transfer import Transfer
from rdnscache.rpz_source import RpzSource

KEY = ("key.example", "hmac-sha256", "c2VjcmV0c2VjcmV0c2VjcmV0")
WRONG = (KEY[0], KEY[1], "d3JvbmdzZWNyZXR3cm9uZw==")

KEYED = dns.tsig.Key(KEY[0], KEY[2], KEY[1])


def text(serial: int, *rules: str) -> str:
    soa = f"$ORIGIN rpz.example.\n$TTL 300\n@ SOA ns root {serial} 3600 600 86400 60\n NS localhost.\n"
    return soa + "".join(f"{rule}\n" for rule in rules)


def source(port: int, key: tuple[str, str, str] | None = None, more: str = "") -> RpzSource:
    settings = [f"tsig={':'.join(key)}"] if key else []
    settings += [more] if more else []
    return RpzSource.parse(f"axfr://127.0.0.1:{port}/rpz.example?{'&'.join(settings)}".rstrip("?"))


def names(transfer: Transfer) -> set[str]:
    """The owners of the copy, without the zone's own."""
    owners = {line.split()[0] for line in transfer.path.read_text().splitlines()}
    return {owner.removesuffix(".rpz.example.") for owner in owners} - {"rpz.example."}


@needs_nsd
class TestNsd:
    @pytest.mark.parametrize("key", [None, KEY])
    def test_whole_and_incremental(
        self, tmp_path: Path, key: tuple[str, str, str] | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """First all of the zone, then what has changed, signed where there is a key; nothing when nothing has."""
        asked: list[int] = []
        session = zone_session.Session

        def noted(source: RpzSource, zone: bytes, rtype: int, *more: int) -> zone_session.Session:
            asked.append(rtype)
            return session(source, zone, rtype, *more)  # type: ignore[arg-type]

        monkeypatch.setattr(transfers, "Session", noted)
        with Nsd("rpz.example", text(1, "a CNAME .", "b A 192.0.2.1", "*.b TXT two"), key) as server:
            transfer = Transfer(source(server.port, key), tmp_path / "copy", go_on)
            assert transfer.refresh() == transfer.path
            assert names(transfer) == {"a", "b", "*.b"}
            assert transfer.refresh() is None
            server.publish(text(2, "b A 192.0.2.1", "b A 192.0.2.2", "c 60 CNAME rpz-drop."))
            wait_for(lambda: server.serial() == 2)
            assert transfer.refresh() == transfer.path
            assert names(transfer) == {"b", "c"}
            assert "c.rpz.example. 60 CNAME rpz-drop.\n" in transfer.path.read_text()
            server.publish(text(3, "b A 192.0.2.1", "c 90 CNAME rpz-drop."))
            wait_for(lambda: server.serial() == 3)
            again = Transfer(source(server.port, key), tmp_path / "copy", go_on)
            assert again.refresh() == again.path
            assert "c.rpz.example. 90 CNAME rpz-drop.\n" in again.path.read_text()
            assert again.path.read_text().count("b.rpz.example.") == 1
        assert asked == [zone_session.AXFR, *[zone_session.IXFR] * 3]

    def test_without_increments(self, tmp_path: Path) -> None:
        """The serial is asked for first."""
        with Nsd("rpz.example", text(1, "a CNAME ."), KEY) as server:
            transfer = Transfer(source(server.port, KEY, "ixfr=no"), tmp_path / "copy", go_on)
            assert transfer.refresh() is not None
            assert transfer.refresh() is None
            server.publish(text(2, "b CNAME ."))
            wait_for(lambda: server.serial() == 2)
            assert transfer.refresh() is not None
            assert names(transfer) == {"b"}

    @pytest.mark.parametrize(("theirs", "ours"), [(KEY, None), (KEY, WRONG), (None, KEY)])
    def test_keys_that_do_not_fit(
        self, tmp_path: Path, theirs: tuple[str, str, str] | None, ours: tuple[str, str, str] | None,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        """Nothing is taken, and the log says why, once."""
        with Nsd("rpz.example", text(1, "a CNAME ."), theirs) as server:
            transfer = Transfer(source(server.port, ours), tmp_path / "copy", go_on)
            for _ in range(2):
                assert transfer.refresh() is None
            assert list(tmp_path.iterdir()) == []
        assert len(caplog.records) == 1
        assert "there is no copy yet" in caplog.text
        assert WRONG[2] not in caplog.text


Messages = Callable[[dns.message.Message], "list[dns.message.Message | bytes]"]


@contextmanager
def serving(messages: Messages) -> Iterator[int]:
    """A server over TCP that answers each query with some messages, and then closes; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                try:
                    size = int.from_bytes(link.recv(2, socket.MSG_WAITALL), "big")
                    query = dns.message.from_wire(link.recv(size, socket.MSG_WAITALL), {KEYED.name: KEYED})
                    for message in messages(query):
                        wire = message if isinstance(message, bytes) else message.to_wire(max_size=65535)
                        link.sendall(struct.pack("!H", len(wire)) + wire)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def reply(query: dns.message.Message, *records: str, rcode: int = 0) -> dns.message.Message:
    message = dns.message.make_response(query)
    message.set_rcode(dns.rcode.Rcode(rcode))
    for record in records:
        owner, ttl, rtype, data = record.split(" ", 3)
        name = dns.name.from_text(owner, dns.name.from_text("rpz.example."))
        message.answer.append(dns.rrset.from_text(name, int(ttl), "IN", rtype, data))
    return message


def soa(serial: int, expire: int = 86400, refresh: int = 3600) -> str:
    return f"@ 300 SOA ns.example. root.example. {serial} {refresh} 600 {expire} 60"


class TestAnything:
    @pytest.mark.parametrize(
        "records",
        [
            [], ["a 60 CNAME ."], [soa(9), "a 60 CNAME ."], [soa(9), "a 60 CNAME .", soa(8)],
            [soa(9).replace("@", "a")], ["@ 60 A 192.0.2.1", soa(9)],
        ],
    )  # fmt: skip
    def test_a_bad_transfer_changes_nothing(self, tmp_path: Path, records: list[str]) -> None:
        """What ends too early, or is no zone: the copy stays, and so does its serial."""
        good = [soa(1), "old 60 CNAME .", soa(1)]
        answers = [good]
        with serving(lambda query: [reply(query, *answers[0])]) as port:
            transfer = Transfer(source(port, more="ixfr=no"), tmp_path / "copy", go_on)
            assert transfer.refresh() is not None
            before = transfer.path.read_bytes()
            asked = iter([[soa(9)], records])
            answers[0] = []
            with serving(lambda query: [reply(query, *next(asked))]) as other:
                transfer.source = source(other, more="ixfr=no")
                assert transfer.refresh() is None
            assert transfer.path.read_bytes() == before
            assert transfer.soa is not None
            assert transfer.soa.serial == 1
            assert [file.name for file in tmp_path.iterdir()] == ["copy"]

    @pytest.mark.parametrize("octets", [b"", b"\0", b"x" * 40, b"\xff" * 65535])
    def test_what_is_no_message(self, tmp_path: Path, octets: bytes) -> None:
        """It is refused."""
        with serving(lambda query: [octets]) as port:
            transfer = Transfer(source(port), tmp_path / "copy", go_on)
            assert transfer.refresh() is None

    def test_who_does_not_do_increments(self, tmp_path: Path) -> None:
        """All of the zone is asked for, whatever is said instead; also when it tells changes of another zone."""
        whole = [soa(2), "new 60 CNAME .", soa(2)]
        for told in (
            None, [], [soa(2)], [soa(2), soa(1), "x 60 CNAME .", soa(2), "y 60 CNAME .", soa(2)],
            [soa(2), soa(7), "old 60 CNAME .", soa(2), soa(2)],
        ):  # fmt: skip
            answers = [[soa(1), "old 60 CNAME .", soa(1)]]

            def messages(query: dns.message.Message, told: Any = told, answers: Any = answers) -> list[Any]:
                if query.question[0].rdtype == zone_session.IXFR:
                    return [reply(query, rcode=4)] if told is None else [reply(query, *told)]
                return [reply(query, *answers[0])]

            with serving(messages) as port:
                path = tmp_path / "copy"
                path.unlink(missing_ok=True)
                transfer = Transfer(source(port), path, go_on)
                assert transfer.refresh() is not None
                answers[0] = whole
                assert transfer.refresh() is not None, told
                assert names(transfer) == {"new"}

    def test_several_differences(self, tmp_path: Path) -> None:
        """One behind the other, over many messages; what comes and goes again is not there."""
        parts = [
            [soa(4), soa(1), "a 60 CNAME ."], [soa(2), "b 60 CNAME ."],
            [soa(2), "b 60 CNAME .", soa(3), "c 60 CNAME ."], [soa(3), soa(4), "a 60 CNAME .", soa(4)],
        ]  # fmt: skip

        def messages(query: dns.message.Message) -> list[dns.message.Message | bytes]:
            if query.question[0].rdtype == zone_session.IXFR:
                return [reply(query, *part) for part in parts]
            return [reply(query, soa(1), "a 60 CNAME .", soa(1))]

        with serving(messages) as port:
            transfer = Transfer(source(port), tmp_path / "copy", go_on)
            assert transfer.refresh() is not None
            assert transfer.refresh() is not None
            assert names(transfer) == {"a", "c"}
            assert transfer.soa is not None
            assert transfer.soa.serial == 4

    def test_bounds(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Records, octets and time."""
        with serving(lambda query: [reply(query, soa(1), *(f"n{n} 60 CNAME ." for n in range(20)), soa(1))]) as port:
            for name in ("MOST_RECORDS", "MOST_OCTETS"):
                with monkeypatch.context() as patch:
                    patch.setattr(zone_session, name, 10)
                    assert Transfer(source(port), tmp_path / "copy", go_on).refresh() is None
            assert Transfer(source(port), tmp_path / "copy", go_on).refresh() is not None

        def endless(query: dns.message.Message) -> list[dns.message.Message | bytes]:
            return [reply(query, soa(1)), *[reply(query)] * 10_000]

        with serving(endless) as port, monkeypatch.context() as patch:
            patch.setattr(zone_session, "LASTING", 0.05)
            assert Transfer(source(port), tmp_path / "copy", go_on).refresh() is None

    def test_an_unsigned_end(self, tmp_path: Path) -> None:
        """Who has a key takes nothing that is not signed to its end."""

        def messages(query: dns.message.Message) -> list[dns.message.Message | bytes]:
            first, last = reply(query, soa(1), "a 60 CNAME ."), reply(query, soa(1))
            last.tsig = last.keyring = None
            return [first.to_wire(multi=True), last]

        with serving(messages) as port:
            transfer = Transfer(source(port, KEY), tmp_path / "copy", go_on)
            assert transfer.refresh() is None
            assert "not signed" in transfer.problem

    def test_times(self, tmp_path: Path) -> None:
        """Refresh, retry and expire are those of the SOA, within bounds; a message of the server comes first."""
        now = [1000.0]
        answers = [[soa(1, expire=5000, refresh=100), "a 60 CNAME .", soa(1, expire=5000, refresh=100)]]
        with serving(lambda query: [reply(query, *answers[0])]) as port:
            transfer = Transfer(source(port), tmp_path / "copy", go_on, lambda: now[0])
            assert transfer.due <= now[0]
            assert transfer.refresh() is not None
            assert transfer.due == 1100
            now[0] = 1100
            answers[0] = []
            assert transfer.refresh() is None
            assert transfer.due == 1700  # retry
            transfer.notified()
            assert transfer.due == 1100
            assert not transfer.expired
            now[0] = 6001
            assert transfer.expired
            answers[0] = [soa(2), "a 60 CNAME .", soa(2)]
            assert transfer.refresh() is not None
            assert not transfer.expired
            assert transfer.due == 6001 + 3600
