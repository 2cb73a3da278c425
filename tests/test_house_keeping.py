"""What a node owes the machine it runs on: no needless rights, no secrets left behind, a folder nobody can squat."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Node, Upstream, free_port, wait_for

from rdnscache import config
from rdnscache.errors import ConfigError
from rdnscache.node import embedded
from rdnscache.secrecy import has_secrets

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

SECRET = ("--secret", "1:0123456789abcdef")


def core_limit(pid: int) -> str:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core file size")).split()[4]


class TestDumps:
    @pytest.mark.parametrize(
        ("args", "secret"),
        [((), False), (SECRET, True), (("--admin-token", "sesame"), True)],
    )
    def test_there_are_none_where_secrets_are(self, upstream: Upstream, args: tuple[str, ...], secret: bool) -> None:
        """Neither of the supervisor nor of its workers; without a secret it is left as it is."""
        usual = core_limit(os.getpid())
        with Node([upstream.address], "none", 1, args) as node:
            for pid in (node.process.pid, *node.children()):
                assert core_limit(pid) == ("0" if secret else usual)

    def test_what_counts_as_a_secret(self, tmp_path: Path) -> None:
        """A password of Redis as well, or the file it is in."""
        (tmp_path / "word").write_text("word")
        base = {"upstream": ("192.0.2.53",)}
        for redis, secret in (
            ("none", False), ("redis://192.0.2.1/0", False), ("redis://:word@192.0.2.1/0", True),
            (f"redis://192.0.2.1/0?password_file={tmp_path}/word", True),
        ):  # fmt: skip
            assert has_secrets(config.load(None, base | {"redis": redis}, {})) is secret


class TestRoot:
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can see it")
    def test_it_is_warned_of_once(self, upstream: Upstream) -> None:
        """Where no port needs it."""
        with Node([upstream.address], "none", 2, ("--admin", f"127.0.0.1:{free_port()}")) as node:
            assert node.log().count("running as root, which is not needed") == 1

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can listen there")
    def test_who_needs_it_is_not_warned(self, upstream: Upstream) -> None:
        """For a port that is not for everybody."""
        first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
        if first < 100:
            pytest.skip("any port is for everybody here")
        with Node([upstream.address], "none", 1, listen="127.0.0.1:77") as node:
            assert "running as root" not in node.log()


class TestFolder:
    @pytest.fixture
    def shared(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """A place like /tmp, where everybody may make folders."""
        path = Path(tempfile.mkdtemp(prefix="rdns-"))
        path.chmod(0o1777)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
        yield path
        shutil.rmtree(path)

    def test_in_a_place_of_our_own_its_name_is_known(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that people find it; nobody but us can enter."""
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        tmp_path.chmod(0o700)
        found = embedded.runtime_folder()
        assert found == tmp_path / "rdnscache" == embedded.runtime_folder()
        assert stat.S_IMODE(found.stat().st_mode) == 0o700

    def test_in_a_shared_place_nobody_can_foresee_it(self, shared: Path) -> None:
        """What somebody else has made there under our name keeps nobody from starting; ours is found again."""
        user = os.getuid()
        squatted = [shared / "rdnscache", shared / f"rdnscache-{user}", shared / f"rdnscache-{user}-x"]
        for path in squatted[:2]:
            path.mkdir(mode=0o777)
        squatted[2].symlink_to(squatted[0])
        (shared / f"rdnscache-{user}-y").mkdir(mode=0o755)
        (shared / f"rdnscache-{user}-z").write_text("")
        found = embedded.runtime_folder()
        assert found.parent == shared
        assert found not in squatted
        assert found.name.startswith(f"rdnscache-{user}-")
        assert stat.S_IMODE(found.stat().st_mode) == 0o700
        assert embedded.runtime_folder() == found

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
    def test_the_folder_of_another_is_not_ours(self, shared: Path) -> None:
        """However well it is named and closed."""
        other = shared / f"rdnscache-{os.getuid()}-aaaa"
        other.mkdir(mode=0o700)
        os.chown(other, 12345, 12345)
        assert embedded.runtime_folder() != other
        assert embedded.running_sockets() == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may look there")
    def test_root_finds_that_of_the_service(self, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its folder is another user's, who can lead root to no other socket by a link."""
        monkeypatch.setattr(embedded, "SERVICE", shared / "service")
        for node in ("n1", "n2"):
            (shared / "service/rdnscache" / node).mkdir(parents=True)
            os.chown(shared / "service/rdnscache" / node, 12345, 12345)
        path = shared / "service/rdnscache/n1/redis.sock"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
            sock.listen()
            (shared / "service/rdnscache/n2/redis.sock").symlink_to(path)
            (shared / "service/rdnscache/n3").symlink_to(path.parent)
            assert embedded.running_sockets() == [path]
            monkeypatch.setattr(os, "getuid", lambda: 12345)
            assert embedded.running_sockets() == []

    def test_where_others_may_rename_it_there_is_none(self, shared: Path) -> None:
        """A place for everybody without the sticky bit."""
        shared.chmod(0o777)
        with pytest.raises(ConfigError, match="other users may change files there"):
            embedded.runtime_folder()

    def test_a_node_in_a_shared_place(self, shared: Path, upstream: Upstream) -> None:
        """It works there, the command finds it, and its folder is empty in the end."""
        with Node([upstream.address], "embedded", 1, env={"XDG_RUNTIME_DIR": str(shared)}) as node:
            (path,) = wait_for(lambda: list(shared.glob("rdnscache-*/*/redis.sock")))
            assert str(path) in node.log()
            assert embedded.running_sockets() == [path]
            assert node.stop() == 0
        assert list(shared.glob("rdnscache-*/*")) == []
