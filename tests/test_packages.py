"""The deb and the rpm: what can be told of them without building one, which takes minutes (`make packages`)."""

from __future__ import annotations

import importlib.util
import re
import shutil
import string
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from support import ROOT, clean_env, run

from rdnscache.config import Config, load

pytestmark = pytest.mark.once

PACKAGES = ROOT / "deploy/packages"

#: Writes down how it was called, and says what is active.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> {log}
case "$*" in *is-active*) exit {inactive} ;; *--kill-whom*) exit {unknown} ;; esac
"""
RESTART = "kill --kill-whom=main --signal=SIGUSR2 rdnscache.service"


@pytest.fixture
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_packages", PACKAGES / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scripted(folder: Path, script: str, *words: str, active: bool = False, old: bool = False) -> list[str]:
    """What a script of the package asks of systemctl, and whether what it removes is gone."""
    log = folder / "log"
    (folder / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    (folder / "systemctl").write_text(SYSTEMCTL.format(log=log, inactive=0 if active else 3, unknown=1 if old else 0))
    (folder / "systemctl").chmod(0o755)
    here = folder / script
    text = (PACKAGES / script).read_text()
    here.write_text(re.sub(r"(?<=[ ])/(?=(run|usr|var|etc)/)", f"{folder}/", text))
    done = run("sh", str(here), *words, env=clean_env() | {"PATH": f"{folder}:/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


@pytest.mark.parametrize("words", [("configure", ""), ("1",)])
def test_an_installation_starts_nothing(words: tuple[str, ...], tmp_path: Path) -> None:
    """Neither dpkg nor rpm starts or enables a node that nobody has configured."""
    assert scripted(tmp_path, "postinst.sh", *words) == ["daemon-reload", "--quiet is-active rdnscache.service"]


@pytest.mark.parametrize("words", [("configure", "0.0.9-1"), ("2",)])
def test_an_upgrade_loses_nothing(words: tuple[str, ...], tmp_path: Path) -> None:
    """A node that runs executes the new version on its sockets, also where systemd has another word for that."""
    assert scripted(tmp_path, "postinst.sh", *words, active=True)[2:] == [RESTART]
    older = scripted(tmp_path, "postinst.sh", *words, active=True, old=True)[2:]
    assert older == [RESTART, RESTART.replace("whom", "who")]
    for word in ("upgrade", "1"):
        assert scripted(tmp_path, "prerm.sh", word, "0.1.0-1") == []
        assert scripted(tmp_path, "postrm.sh", word, "0.1.0-1") == []


@pytest.mark.parametrize("word", ["remove", "0"])
def test_a_removal_ends_the_node_and_keeps_its_configuration(word: str, tmp_path: Path) -> None:
    """What was fetched stays as well, what Python compiled does not."""
    for path in ("usr/lib/rdnscache", "var/lib/private/rdnscache", "etc/rdnscache"):
        (tmp_path / path).mkdir(parents=True)
    assert scripted(tmp_path, "prerm.sh", word) == ["--quiet disable --now rdnscache.socket rdnscache.service"]
    assert scripted(tmp_path, "postrm.sh", word) == ["daemon-reload"]
    assert not (tmp_path / "usr/lib/rdnscache").exists()
    assert (tmp_path / "var/lib/private/rdnscache").exists()
    assert (tmp_path / "etc/rdnscache").exists()


def test_a_purge_leaves_nothing_but_what_others_have_made(tmp_path: Path) -> None:
    """The folder of the configuration goes when it is empty."""
    (tmp_path / "var/lib/private/rdnscache").mkdir(parents=True)
    (tmp_path / "etc/rdnscache").mkdir(parents=True)
    (tmp_path / "etc/rdnscache/own.zone").write_text("")
    scripted(tmp_path, "postrm.sh", "purge")
    assert not (tmp_path / "var/lib/private/rdnscache").exists()
    assert (tmp_path / "etc/rdnscache/own.zone").exists()
    (tmp_path / "etc/rdnscache/own.zone").unlink()
    scripted(tmp_path, "postrm.sh", "purge")
    assert not (tmp_path / "etc/rdnscache").exists()


def test_the_example_of_a_configuration_works(tmp_path: Path) -> None:
    """As it is packed it answers this machine on port 53, and with what is commented out it is one as well."""
    text = (PACKAGES / "rdnscache.toml").read_text()
    config = load(str(PACKAGES / "rdnscache.toml"), {"upstream": ["192.0.2.53"]}, {}, lambda text: None)
    assert [str(each) for each in config.listen] == ["127.0.0.1:53"]
    assert config.allow == Config().allow
    (tmp_path / "all.toml").write_text(re.sub(r"^#(?=\w+ =)", "", text, flags=re.MULTILINE))
    everything = load(str(tmp_path / "all.toml"), {}, {}, lambda text: None)
    assert len(everything.upstream) == 2
    assert everything.allow == Config().allow
    assert everything.redis == "embedded"


def test_the_packed_units_are_those_of_the_packed_configuration(build: ModuleType, tmp_path: Path) -> None:
    """They execute the packed command, with the packed file, at its addresses."""
    build.units(tmp_path / "units")
    service = (tmp_path / "units/rdnscache.service").read_text()
    sockets = (tmp_path / "units/rdnscache.socket").read_text()
    assert re.findall(r"^ExecStart=(\S+)", service, re.MULTILINE) == ["/usr/bin/rdnscache"]
    # What no package here depends on may be missing, as procps with its /bin/kill is in small installations.
    assert set(re.findall(r"^Exec\w+=(\S+)", service, re.MULTILINE)) <= {"/usr/bin/rdnscache", "/bin/sh"}
    assert "RDNSCACHE_CONFIG=/etc/rdnscache/rdnscache.toml" in service
    assert set(re.findall(r"^Listen\w+=(.*)$", sockets, re.MULTILINE)) == {"127.0.0.1:53"}


def test_what_nfpm_is_told_can_be_read(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it leaves open is filled in, and the files it names are there; what is secret, root alone reads."""
    monkeypatch.setattr(build, "needed", lambda place: (["libstdc++.so.6"], "2.34"))
    said = yaml.safe_load(string.Template((PACKAGES / "nfpm.yaml").read_text()).substitute(build.facts(ROOT)))
    for each in said["contents"]:
        assert each.get("type") in ("tree", "dir") or (ROOT / each["src"]).is_file()
    assert all((ROOT / path).is_file() for path in said["scripts"].values())
    modes = {each["dst"]: each.get("file_info", {}).get("mode") for each in said["contents"]}
    assert modes["/etc/rdnscache/environment"] == 0o600
    python = f"python3 (<< {sys.version_info[0]}.{sys.version_info[1] + 1})"
    assert python in said["overrides"]["deb"]["depends"]
    assert "libstdc++6" in said["overrides"]["deb"]["depends"]
    assert "libstdc++.so.6()(64bit)" in said["overrides"]["rpm"]["depends"]


def test_each_shell_finds_its_completion(build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Debian's zsh looks into another folder than those of other distributions."""
    monkeypatch.setattr(build, "run", lambda *words, **variables: variables["_RDNSCACHE_COMPLETE"])
    build.completion(tmp_path, tmp_path / "share")
    found = {str(path.relative_to(tmp_path / "share")) for path in tmp_path.rglob("*rdnscache*") if path.is_file()}
    assert {
        "bash-completion/completions/rdnscache", "zsh/vendor-completions/_rdnscache", "zsh/site-functions/_rdnscache",
        "fish/vendor_completions.d/rdnscache.fish",
    } == found  # fmt: skip
    if zsh := shutil.which("zsh"):
        folders = run(zsh, "-fc", "print -l $fpath").stdout.splitlines()
        assert {f"/usr/share/zsh/{each}" for each in ("vendor-completions", "site-functions")} & set(folders)
