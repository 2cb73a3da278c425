"""Snapshots that are long: several processes store them, and what they say is what one would say."""

from __future__ import annotations

import base64
import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import dns.message
import dns.rrset
import pytest
from support import ROOT, RedisServer, clean_env, command, wait_for

from rdnscache.operator.snapshot import BLOCK

#: About commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

#: About the lines in a block that one process stores; those here have more than 200 octets.
PORTION = BLOCK // 200

HEAD = '{"rdnscache": "snapshot", "version": "1"}'
INFO = "rcode=NOERROR ttl=300 stale=60 stored=2026-11-27T12:00:00Z from=192.0.2.53 node=n1"


def wire_of(name: str) -> bytes:
    reply = dns.message.make_response(dns.message.make_query(name, "A", id=0), recursion_available=True)
    reply.answer.append(dns.rrset.from_text(name, 300, "IN", "A", "192.0.2.1"))
    return reply.to_wire()


def line(name: str, wire: bytes, variant: str = "") -> dict[str, object]:
    told = base64.b64encode(wire).decode()
    return {"key": f"{{{name}}}:A{variant}", "left_ms": 300_000, "info": INFO, "wire": told}


def test_a_long_one_is_stored_by_several(redis_server: RedisServer, tmp_path: Path) -> None:
    """All that are entries, whatever form their lines have, and each refusal is counted; what is there stays."""
    names = [f"n{number}.test." for number in range(2 * PORTION + 100)]
    lines = [json.dumps(line(name, wire_of(name))) for name in names]
    lines += [json.dumps(line("n1.test.", wire_of("n1.test."), ":do"), indent=None, separators=(",", ":"))]
    lines += [json.dumps(line("n2.test.", wire_of("n2.test."), ":cd")).replace("n2", "\\u006e2")]
    lines += [json.dumps(line("n3.test.", wire_of("n4.test.")))]  # another's reply
    lines += [json.dumps(line("n3.test.", wire_of("n3.test."), ":xx")), "{", '{"key": 1}', json.dumps([])]
    lines += [json.dumps(line("n3.test.", wire_of("n3.test.")) | {"left_ms": 0})]
    lines += [json.dumps(line("n3.test.", wire_of("n3.test.")) | {"wire": "AAA"})]
    file, url = tmp_path / "snapshot.gz", ("--redis", redis_server.url)
    file.write_bytes(gzip.compress("\n".join([HEAD, *lines]).encode()))
    client = redis_server.client()
    client.hset("rdns:1:{n7.test.}:A", mapping={"info": "-"})
    done = command("cache", "import", str(file), *url)
    assert done.stdout == f"stored {len(names) + 1}, already there 1, refused 7\n", done.stdout + done.stderr
    assert done.returncode == 1
    assert client.hget("rdns:1:{n5.test.}:A", "answer") == b"n5.test. 300 IN A 192.0.2.1"
    assert client.hget("rdns:1:{n7.test.}:A", "info") == b"-"
    assert 0 < client.pttl("rdns:1:{n1.test.}:A:do") <= 300_000 and client.exists("rdns:1:{n2.test.}:A:cd")
    done = command("cache", "export", str(tmp_path / "again"), *url)
    told = [json.loads(each) for each in (tmp_path / "again").read_text().splitlines()[1:]]
    assert {each["key"] for each in told} >= {f"{{{name}}}:A" for name in names if name != "n7.test."}
    assert len(told) == len(names) + 1, done.stderr


def test_one_that_is_damaged_in_its_midst(redis_server: RedisServer, tmp_path: Path) -> None:
    """What could be read is stored, and the sentence says how many these are."""
    names = [f"n{number}.test." for number in range(2 * PORTION)]
    text = "\n".join([HEAD, *(json.dumps(line(name, wire_of(name))) for name in names)]).encode()
    packed = gzip.compress(text)
    file = tmp_path / "snapshot.gz"
    file.write_bytes(packed[:-1000])
    done = command("cache", "import", str(file), "--redis", redis_server.url)
    stored = redis_server.client().dbsize()
    assert done.returncode == 2 and PORTION <= stored < len(names)
    assert f"{stored} entries before that are stored" in done.stderr, done.stderr


def test_ctrl_c_says_how_far_it_came(redis_server: RedisServer) -> None:
    """A sentence and no traceback, while a snapshot is waited for."""
    client = redis_server.client()
    words = [sys.executable, "-m", "rdnscache", "cache", "import", "-", "--redis", redis_server.url]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, text=True, env=clean_env(), cwd=ROOT, stdin=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        many = [json.dumps(line(name, wire_of(name))) for name in (f"n{number}.test." for number in range(PORTION))]
        process.stdin.write("\n".join([HEAD, *many, *many[:200]]) + "\n")
        process.stdin.flush()
        least = (BLOCK - 1000) // (1 + max(map(len, many)))

        def stored() -> bool:
            """Whether a block is stored, and nothing more comes."""
            before = client.dbsize()
            time.sleep(0.2)
            return client.dbsize() == before >= least

        wait_for(stored, 20)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == f"rdnscache: interrupted: {client.dbsize()} entries stored, perhaps some more\n"


def test_lines_of_any_form(redis_server: RedisServer, tmp_path: Path) -> None:
    """Line ends of any kind, empty lines, a byte order mark and a last line without an end are read; a line of any
    length, wherever it lies, is refused as one.
    """
    good = [json.dumps(line(name, wire_of(name))) for name in (f"n{number}.test." for number in range(4))]
    odd = json.dumps(line(r"a\046b.test.", wire_of(r"a\.b.test.")))
    plain = json.dumps(line("n9.test.", wire_of("n9.test.")))
    wrong = [plain.replace("300000", told) for told in ("0300000000000000", "-1", "3e5", '"1"', "", "9" * 5000, "true")]
    wrong += [plain.replace("n9", "N9"), plain + " x", plain.replace("node=n1", "node=\x01"), plain[:-1], "[" * 5000]
    wrong += [plain.replace('"wire": "', '"wire": "=='), plain.replace("n9", "n\x7f9"), plain.replace("n9", "\u00e9")]
    long = ["x" * 99_999, "x" * 100_001, "y" * (2 * BLOCK), "{" + " " * BLOCK + "}", plain.replace("n9", "n" * BLOCK)]
    text = (
        "\ufeff\n"
        + "\r\n".join([HEAD, good[0], "", odd, " "])
        + "\n"
        + "\n".join([*long[:3], good[1], *wrong, "\t", *long[3:], good[2], good[3]])
    )
    file = tmp_path / "snapshot"
    file.write_bytes(text.encode())
    done = command("cache", "import", str(file), "--redis", redis_server.url)
    assert done.stdout == f"stored 5, already there 0, refused {len(wrong) + len(long)}\n", done.stdout + done.stderr
    assert redis_server.client().exists(r"rdns:1:{a\046b.test.}:A")


def test_values_larger_than_an_entry_has(redis_server: RedisServer, tmp_path: Path) -> None:
    """Whoever writes to Redis cannot make a list, a look-up or an export fail: what is too large is no entry."""
    client = redis_server.client()
    whole = {"info": INFO, "answer": "-", "wire": wire_of("a.test.")}
    for number, told in enumerate(({"answer": "x" * (2 << 20)}, {"answer": "x" * 70_000}, {"wire": "x" * 70_000})):
        client.hset(f"rdns:1:{{n{number}.test.}}:A", mapping=whole | told)
    client.hset("rdns:1:{a.test.}:A", mapping=whole)
    client.set("rdns:1:{b.test.}:A", "no hash")
    for key in client.scan_iter("rdns:1:*"):
        client.pexpire(key, 300_000)
    url = ("--redis", redis_server.url)
    assert command("cache", "get", "n0.test", *url).returncode == 1
    listed = command("cache", "ls", *url)
    assert {row.split()[0] for row in listed.stdout.splitlines()[1:]} == {"a.test.", "n2.test."}, listed.stderr
    done = command("cache", "export", str(tmp_path / "all"), *url)
    assert done.stderr == "exported 3 entries\n"


def test_a_snapshot_outlives_a_failed_export(tmp_path: Path) -> None:
    """Nothing is written to the file before Redis has told of entries."""
    file = tmp_path / "snapshot"
    file.write_text("an earlier one\n")
    done = command("cache", "export", str(file), "--redis", "redis://127.0.0.1:1/0")
    assert done.returncode == 1 and file.read_text() == "an earlier one\n"
