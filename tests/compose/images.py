"""The images of the test: the official ones, or where no registry can be reached, Debian's packages on our own base.

What this machine needs to reach its package indexes (apt's `Acquire` options, pip.conf, PIP_ variables, the CA bundle)
goes into that base, or along as build arguments and a secret. It never comes near the repository.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from engine import Engine, Failed

ROOT = Path(__file__).parents[2]
BASE, SUITE = "debian:trixie-slim", "trixie"
OWN_BASE = "rdnscache-test/base"
#: Variables of docker-compose.yml, and the packages that stand in for the official image.
PACKAGES = {
    "REDIS_IMAGE": ("valkey-server", "valkey-tools"),
    "DNSDIST_IMAGE": ("dnsdist",),
    "PROMETHEUS_IMAGE": ("prometheus",),
}
CA_BUNDLE, PIP_CONF = Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pip.conf")
#: Seconds for one image: a busy machine needs long to compile.
BUILDING = 1800
PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT", "PIP_CERT")


def make_images(engine: Engine) -> dict[str, str]:
    """Build what has to be built; the variables that make docker-compose.yml use it."""
    images = {"RDNSCACHE_IMAGE": "rdnscache-test/rdnscache"}
    base = BASE
    if not engine.works("docker", "pull", "--quiet", BASE):
        base = OWN_BASE
        if not engine.works("docker", "image", "inspect", OWN_BASE):
            _import_base(engine)
        for variable, packages in PACKAGES.items():
            images[variable] = f"rdnscache-test/{variable.removesuffix('_IMAGE').lower()}"
            folder = ROOT / "tests/compose/images"
            _build(engine, images[variable], folder, {"BASE": base, "PACKAGES": " ".join(packages)})
    arguments = {name: os.environ[name] for name in PIP_VARIABLES if os.environ.get(name)}
    _build(engine, images["RDNSCACHE_IMAGE"], ROOT, {"BASE": base} | arguments)
    return images


def _build(engine: Engine, tag: str, folder: Path, arguments: dict[str, str]) -> None:
    command = [engine.builder(), "build", "--network", "host", "--tag", tag]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    if PIP_CONF.exists():
        command += ["--secret", f"id=pip.conf,src={PIP_CONF}"]
    engine.run(*command, str(folder), env={"DOCKER_BUILDKIT": "1"}, timeout=BUILDING)


def _import_base(engine: Engine) -> None:
    if not shutil.which("debootstrap"):
        raise Failed(f"{BASE} cannot be pulled; to make a base image, debootstrap is needed")
    root = engine.folder / "base"
    engine.run("debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(root))
    options = engine.run("apt-config", "dump").splitlines()
    lines = [line for line in options if line.startswith("Acquire::") and not line.endswith('"";')]
    (root / "etc/apt/apt.conf.d/00machine").write_text("\n".join(lines) + "\n")
    for path in (CA_BUNDLE, PIP_CONF):
        if path.exists():
            shutil.copyfile(path, root / path.relative_to("/"))
    for path in (root / "var/cache/apt/archives", root / "var/lib/apt/lists"):
        shutil.rmtree(path)
    archive = engine.folder / "base.tar"
    engine.run("tar", "--create", "--file", str(archive), "--directory", str(root), ".")
    engine.run("docker", "import", str(archive), OWN_BASE)
    archive.unlink()
    shutil.rmtree(root)
