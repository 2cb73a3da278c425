"""Compiles the hot modules where a C compiler is there, and goes on in plain Python where not.

Everything else about the package is in pyproject.toml. RDNSCACHE_PURE=1 leaves the compiler alone.
REQUIRE_COMPILED=1 is for those who build for others: whatever keeps the modules from being compiled is an error then.
"""

import os
import shlex
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

#: The path of a hit and of a miss: ordinary modules, most with their types beside them in a .pxd; twins in a .pyx where
#: C is called.
COMPILED = {
    "rdnscache.cache": ".pyx",
    "rdnscache.clients.limit": ".py",
    "rdnscache.clients.networks": ".py",
    "rdnscache.clients.proxy": ".py",
    "rdnscache.clients.shares": ".py",
    "rdnscache.clock": ".pyx",
    "rdnscache.crew": ".py",
    "rdnscache.decider": ".py",
    "rdnscache.dns.compose": ".py",
    "rdnscache.dns.distill": ".py",
    "rdnscache.dns.entry": ".py",
    "rdnscache.dns.names": ".py",
    "rdnscache.dns.policy": ".py",
    "rdnscache.dns.question": ".py",
    "rdnscache.dns.rdata": ".py",
    "rdnscache.dns.records": ".py",
    "rdnscache.dns.spelling": ".py",
    "rdnscache.dns.splice": ".pyx",
    "rdnscache.dns.text": ".py",
    "rdnscache.dns.wire": ".py",
    "rdnscache.dns.zones": ".py",
    "rdnscache.flights": ".py",
    "rdnscache.operator.snapshot_lines": ".py",
    "rdnscache.policy.list_text": ".py",
    "rdnscache.policy.lists": ".py",
    "rdnscache.policy.name_table": ".py",
    "rdnscache.policy.rules": ".py",
    "rdnscache.query_log": ".py",
    "rdnscache.metrics": ".py",
    "rdnscache.resolver": ".py",
    "rdnscache.server.batch": ".pyx",
    "rdnscache.server.answering": ".py",
    "rdnscache.server.udp": ".py",
    "rdnscache.store.breaker": ".py",
    "rdnscache.store.claim": ".py",
    "rdnscache.store.claim_store": ".py",
    "rdnscache.store.contract": ".py",
    "rdnscache.store.decoding": ".py",
    "rdnscache.store.link": ".py",
    "rdnscache.store.interface": ".py",
    "rdnscache.store.packing": ".pyx",
    "rdnscache.store.pipe": ".py",
    "rdnscache.store.resp": ".py",
    "rdnscache.store.server": ".py",
    "rdnscache.store.servers": ".py",
    "rdnscache.store.redis_store": ".py",
    "rdnscache.store.trust": ".py",
    "rdnscache.tally": ".pyx",
    "rdnscache.upstream.alarms": ".py",
    "rdnscache.upstream.asking": ".py",
    "rdnscache.upstream.attempt": ".py",
    "rdnscache.upstream.choice": ".py",
    "rdnscache.upstream.connection": ".py",
    "rdnscache.upstream.datagrams": ".py",
    "rdnscache.upstream.defence": ".py",
    "rdnscache.upstream.estimate": ".py",
    "rdnscache.upstream.fitness": ".py",
    "rdnscache.upstream.framed": ".py",
    "rdnscache.upstream.framing": ".py",
    "rdnscache.upstream.health": ".py",
    "rdnscache.upstream.packets": ".pyx",
    "rdnscache.upstream.pool": ".py",
    "rdnscache.upstream.query": ".py",
    "rdnscache.upstream.reading": ".py",
    "rdnscache.upstream.routes": ".py",
    "rdnscache.upstream.search": ".py",
    "rdnscache.upstream.server": ".py",
    "rdnscache.upstream.servers": ".py",
}
#: Types come from the .pxd files alone; an annotation says what a person may rely on.
DIRECTIVES = {"language_level": "3", "annotation_typing": False, "boundscheck": True, "nonecheck": True}


#: A method of the wrong type in a table of methods is a warning to the compiler, and a crash in the end.
#: Without debugging symbols compiling is faster; CFLAGS of one's own decide about them.
FLAGS = ["-Werror=incompatible-pointer-types", *([] if "CFLAGS" in os.environ else ["-g0"])]
PURE, REQUIRED = (os.environ.get(name, "") not in ("", "0") for name in ("RDNSCACHE_PURE", "REQUIRE_COMPILED"))


class BuildOrGoWithout(build_ext):
    """All modules or none: they use each other's C types."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        try:
            self.translate()
            super().run()
        except Exception as error:  # whatever it was, the plain form works
            if REQUIRED:
                print(f"rdnscache: no compiled form: {error}")
                raise
            self.extensions = []
            for name in COMPILED:
                Path(self.get_ext_fullpath(name)).unlink(missing_ok=True)
            print(f"rdnscache: the plain Python form is installed ({error})")
        else:
            if self.extensions:
                print("rdnscache: the compiled form is installed")

    def translate(self):
        """To C; only here, since an sdist and the metadata need none of it."""
        from Cython.Build import cythonize

        made = cythonize(
            self.extensions, compiler_directives=DIRECTIVES, build_dir="build/cython", nthreads=os.cpu_count(),
            force=self.force,
        )  # fmt: skip
        sources = {each.name: each.sources for each in made}
        for extension in self.extensions:
            extension.sources = sources[extension.name]


def hindrance():
    """What keeps the modules from being compiled; empty when nothing does."""
    if sys.platform != "linux":
        return "it is for Linux"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        return f"no C compiler: {compiler} is not found"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python.h is not found: python3-dev on Debian"
    return "" if find_spec("Cython") else "Cython is not installed"


def extensions():
    if PURE and REQUIRED:
        sys.exit("rdnscache: RDNSCACHE_PURE and REQUIRE_COMPILED contradict each other")
    problem = "" if PURE else hindrance()
    if problem and REQUIRED:
        sys.exit(f"rdnscache: no compiled form: {problem}")
    if PURE or problem:
        print(f"rdnscache: the plain Python form is installed{f' ({problem})' if problem else ''}")
        return []
    return [
        Extension(name, [name.replace(".", "/") + suffix], extra_compile_args=FLAGS)
        for name, suffix in COMPILED.items()
    ]


if __name__ == "__main__":  # those who help to translate read this file as well
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildOrGoWithout})
