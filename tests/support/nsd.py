"""Debian's nsd, which serves a zone that can be transferred."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.exception
import pytest

from .messages import ask
from .peers import WHERE
from .ports import free_port
from .waiting import wait_for

needs_nsd = pytest.mark.skipif(not shutil.which("nsd", path=WHERE), reason="no nsd")

CONFIG = """server:
 ip-address: 127.0.0.1@{port}
 username: ""
 chroot: ""
 database: ""
 pidfile: "{folder}/pid"
 zonesdir: "{folder}"
 xfrdfile: "{folder}/xfrd"
 xfrdir: "{folder}"
 logfile: "{folder}/log"
 zonelistfile: "{folder}/list"
 server-count: 1
 zonefiles-check: yes
remote-control:
 control-enable: no
{key}
zone:
 name: {zone}
 zonefile: zone
 store-ixfr: yes
 create-ixfr: yes
 provide-xfr: 127.0.0.1 {signed}
{notify}
"""
KEY = """key:
 name: "{name}"
 algorithm: {algorithm}
 secret: "{secret}"
"""


class Nsd:
    """`key` is the name, algorithm and secret of a TSIG key; `notify` the port of who is told of changes."""

    def __init__(self, zone: str, text: str, key: tuple[str, str, str] | None = None, notify: int = 0) -> None:
        self.zone = zone
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="rdns-"))
        signed = key[0] if key else "NOKEY"
        names = ("name", "algorithm", "secret")
        told = KEY.format(**dict(zip(names, key, strict=True))) if key else ""
        notified = f" notify: 127.0.0.1@{notify} {signed}" if notify else ""
        self._write(text)
        config = self.folder / "nsd.conf"
        config.write_text(CONFIG.format(port=self.port, folder=self.folder, zone=zone, key=told, signed=signed,
                                        notify=notified))  # fmt: skip
        program = shutil.which("nsd", path=WHERE) or "nsd"
        with (self.folder / "out").open("wb") as out:
            self.process = subprocess.Popen([program, "-d", "-c", str(config)], stdout=out, stderr=out)
        try:
            wait_for(self._answers, 10)
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            said = [(self.folder / name).read_text() for name in ("out", "log") if (self.folder / name).exists()]
            raise AssertionError(f"nsd ended: {said}")
        return self.serial() > 0

    def serial(self) -> int:
        """That of the zone it serves, 0 when it does not answer."""
        try:
            reply = ask(self.port, self.zone, "SOA", timeout=0.5)
        except (dns.exception.DNSException, OSError):
            return 0
        return int(reply.answer[0][0].serial) if reply.answer else 0

    def _write(self, text: str) -> None:
        new = self.folder / "zone.new"
        new.write_text(text)
        os.utime(new, (self._later(), self._later()))
        new.rename(self.folder / "zone")

    def _later(self) -> float:
        """Set a later modification time than that of the previous file, so that the change is noticed."""
        file = self.folder / "zone"
        return file.stat().st_mtime + 2 if file.exists() else (self.folder.stat().st_mtime - 1000)

    def publish(self, text: str) -> None:
        """Make it serve another version of the zone."""
        self._write(text)
        self.process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()
