"""What is released: the sdist holds everything, wheel and sdist install and answer, and the files beside them agree."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from support import ROOT, clean_env

import rdnscache
from rdnscache.forms import form

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
#: What is tracked and belongs to the forge alone.
NOT_RELEASED = (".ci/", ".github/")
BUILT = (".venv", ".git", "*.so", "__pycache__", "*.egg-info", "build", "dist", ".*_cache", ".hypothesis")
pytestmark = pytest.mark.once


def said_by(*words: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """What a command printed; a test fails with all of it when the command did."""
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=clean_env(env), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def tracked() -> set[str]:
    """The files of the checkout; of an unpacked sdist, those that it has."""
    if (ROOT / ".git").exists():
        names = said_by("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
        return {name for name in names if (ROOT / name).exists()}
    return {name for name in (ROOT / "rdnscache.egg-info/SOURCES.txt").read_text().split() if (ROOT / name).exists()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of a copy of the checkout, so that nothing left over from other builds gets in."""
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, folder / "checkout", ignore=shutil.ignore_patterns(*BUILT), symlinks=True)
    said_by(sys.executable, "setup.py", "-q", "sdist", "--dist-dir", folder, cwd=folder / "checkout")
    (path,) = folder.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def unpacked(sdist: Path) -> Path:
    with tarfile.open(sdist) as tar:
        tar.extractall(sdist.parent, filter="data")
    return sdist.parent / sdist.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(unpacked: Path) -> Path:
    """The wheel that is built from the sdist, in the form that the tests run in."""
    compiled = form() == "compiled"
    if compiled and (ROOT / "build").exists():  # where sources are no newer, nothing is compiled again
        ours = shutil.ignore_patterns("*.py", "bdist*", "*.txt", "newest", "sbom")
        shutil.copytree(ROOT / "build", unpacked / "build", ignore=ours)
        for lib in (unpacked / "build").glob("lib.*"):
            for path in lib.rglob("*.so"):
                if module_of(path.relative_to(lib)) not in compiled_modules():  # left over from when it was compiled
                    path.unlink()
    variables = {"REQUIRE_COMPILED": "1"} if compiled else {"RDNSCACHE_PURE": "1"}
    command = (
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        unpacked.parent,
    )
    said_by(*command, unpacked, env=variables)
    (path,) = unpacked.parent.glob("*.whl")
    return path


def install(what: Path, python: Path, *words: str, env: dict[str, str] | None = None) -> None:
    """Have pip install it for a Python, with what it depends on in the versions that are tested."""
    said_by(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile", "--constraint",
        ROOT / "constraints.txt", *words, what, env=env)  # fmt: skip


def test_the_sdist_holds_what_is_tracked(sdist: Path) -> None:
    """Types, twins in C, tests and docs: what is built from it can be tested, and nothing built is in it."""
    with tarfile.open(sdist) as tar:
        held = {member.name.partition("/")[2] for member in tar.getmembers() if member.isfile()}

    wanted = {name for name in tracked() if not name.startswith(NOT_RELEASED)}
    assert wanted - held == set()
    made = {name for name in held - wanted if not name.startswith("rdnscache.egg-info/")}
    assert made == {"PKG-INFO", "setup.cfg"}


def test_a_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every module and what it reads; no test, no source of C. One that is compiled has all compiled modules."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {name for name in tracked() if name.startswith("rdnscache/") and name.endswith(".py")}
    others = {f"rdnscache/{name}" for name in ("py.typed", *(f"admin/page/{path.name}" for path in pages()))}

    built = {name for name in names if name.endswith(".so")}
    assert names - built == modules | others
    assert {module_of(Path(name)) for name in built} == (compiled_modules() if form() == "compiled" else set())


def module_of(path: Path) -> str:
    return ".".join((*path.parent.parts, path.name.partition(".")[0]))


def compiled_modules() -> set[str]:
    return set(re.findall(r'^    "(rdnscache\.[\w.]+)"', (ROOT / "setup.py").read_text(), re.MULTILINE))


def pages() -> list[Path]:
    return [path for path in (ROOT / "rdnscache/admin/page").iterdir() if path.is_file() and path.suffix != ".py"]


def test_wheel_and_sdist_install_and_answer(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    """In a new environment, with nothing but what the wheel depends on; pip builds the sdist in one of its own."""
    said_by(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    python = tmp_path / "env/bin/python"
    install(wheel, python)
    assert "answered" in said_by(python, ROOT / "tests/installed.py", form(), cwd=tmp_path)

    install(sdist, python, "--force-reinstall", "--no-deps", env={"RDNSCACHE_PURE": "1"})
    assert "answered" in said_by(python, ROOT / "tests/installed.py", "pure Python", cwd=tmp_path)


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"CC": "no-such-compiler"}, "no C compiler: no-such-compiler is not found"),
        ({"RDNSCACHE_PURE": "1"}, "contradict each other"),
    ],
)
def test_builders_can_require_the_compiled_form(variables: dict[str, str], why: str) -> None:
    """With REQUIRE_COMPILED=1, what keeps it from being compiled is an error that says so."""
    command = [sys.executable, "setup.py", "--version"]
    env = clean_env({"RDNSCACHE_PURE": "", "REQUIRE_COMPILED": "1"} | variables)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert done.stderr.strip().endswith(why)


def test_without_a_compiler_the_plain_form_is_made() -> None:
    """One line says so, and why; it is no error."""
    said = said_by(sys.executable, "setup.py", "--version", env={"CC": "no-such-compiler", "RDNSCACHE_PURE": ""})

    assert said.splitlines()[0] == (
        "rdnscache: the plain Python form is installed (no C compiler: no-such-compiler is not found)"
    )


def test_every_dependency_is_pinned_as_tested() -> None:
    """constraints.txt has a version for each that pyproject.toml allows."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    extras = PYPROJECT["project"]["optional-dependencies"]
    named = [*PYPROJECT["build-system"]["requires"], *PYPROJECT["project"]["dependencies"]]
    named += [*extras["embedded"], *extras["dev"]]

    for requirement in map(Requirement, named):
        assert requirement.name in pins, requirement
        assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_versions_and_names_agree() -> None:
    """Classifiers, wheels and workflow are about the same Pythons; hooks use the pinned ruff."""
    classifiers = PYPROJECT["project"]["classifiers"]
    pythons = [word for text in classifiers if (word := text.rpartition(" :: ")[2]).startswith("3.")]
    matrix = WORKFLOWS["tests.yml"]["jobs"]["tests"]["strategy"]["matrix"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (ruff,) = [repo["rev"] for repo in hooks if repo["repo"].endswith("ruff-pre-commit")]

    assert PYPROJECT["tool"]["cibuildwheel"]["build"] == [f"cp{python.replace('.', '')}-*" for python in pythons]
    assert matrix == {"python": pythons, "form": ["compiled", "plain"]}
    assert f"ruff=={ruff.removeprefix('v')}" in (ROOT / "constraints.txt").read_text().split()


def test_the_changelog_has_the_form_it_names() -> None:
    """Keep a Changelog: Unreleased, then versions with days, newest first; kinds of changes; a link for each."""
    text = (ROOT / "CHANGELOG.md").read_text()
    first, *versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    numbers = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d", each) for each in versions]

    assert first == "[Unreleased]" and all(numbers)
    found = [Version(number[1]) for number in numbers if number]
    assert found == sorted(found, reverse=True)
    assert Version(rdnscache.__version__) >= max(found, default=Version("0"))
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    links = re.findall(r"^\[(.*)\]: https://", text, re.MULTILINE)
    assert links == ["Unreleased", *(number[1] for number in numbers if number)]


def steps() -> list[dict[str, object]]:
    return [step for flow in WORKFLOWS.values() for job in flow["jobs"].values() for step in job["steps"]]


def test_workflows_run_what_developers_run() -> None:
    """What is tested and built there is a target of the Makefile, or moves files; CI's targets are all among them."""
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [str(step["run"]).split() for step in steps() if "run" in step]
    made = {words[1] for words in commands if words[0] == "make"}
    lines = re.findall(r"^make (.*)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    here = {word for line in lines for word in line.split() if not word.startswith("-")}

    assert made <= targets
    assert here and here <= made
    assert {words[0] for words in commands} <= {"make", "rm", "mkdir", "sudo", "apt-get"}
    assert {words[1] for words in commands if words[0] == "sudo"} <= {"apt-get"}


def test_workflows_may_do_little() -> None:
    """A whole workflow may read, and no more; actions have a major version, and leave no token in a checkout."""
    for name, flow in WORKFLOWS.items():
        assert flow["permissions"] == {"contents": "read"}, name
        for job in flow["jobs"].values():
            assert "timeout-minutes" in job
    for step in steps():
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@(v\d+|release/v\d+)", str(step["uses"])), step
        if str(step.get("uses", "")).startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


def test_builds_for_others_require_the_compiled_form() -> None:
    """Image, wheels and `make dist`."""
    assert PYPROJECT["tool"]["cibuildwheel"]["environment"]["REQUIRE_COMPILED"] == "1"
    assert re.search(r"REQUIRE_COMPILED=1 \S+/pip wheel ", (ROOT / "Dockerfile").read_text())
    assert "REQUIRE_COMPILED=1 $(BIN)/python -m build" in (ROOT / "Makefile").read_text()
