"""Compiles the hot modules where a C compiler is there, and goes on in plain Python where not.

Everything else about the package is in pyproject.toml. RDNSCACHE_PURE=1 leaves the compiler alone.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

#: The path of a hit and of a miss: ordinary modules, most with their types beside them in a .pxd; twins in a .pyx where
#: C is called.
COMPILED = {
    "rdnscache.cache": ".py",
    "rdnscache.clients.limit": ".py",
    "rdnscache.clients.networks": ".py",
    "rdnscache.clients.proxy": ".py",
    "rdnscache.clients.shares": ".py",
    "rdnscache.crew": ".py",
    "rdnscache.dns.compose": ".py",
    "rdnscache.dns.distill": ".py",
    "rdnscache.dns.entry": ".py",
    "rdnscache.dns.names": ".py",
    "rdnscache.dns.policy": ".py",
    "rdnscache.dns.question": ".py",
    "rdnscache.dns.rdata": ".py",
    "rdnscache.dns.records": ".py",
    "rdnscache.dns.splice": ".pyx",
    "rdnscache.dns.wire": ".py",
    "rdnscache.flights": ".py",
    "rdnscache.journal": ".py",
    "rdnscache.metrics": ".py",
    "rdnscache.resolver": ".py",
    "rdnscache.server.batch": ".pyx",
    "rdnscache.server.desk": ".py",
    "rdnscache.server.udp": ".py",
    "rdnscache.store.breaker": ".py",
    "rdnscache.store.candidacy": ".py",
    "rdnscache.store.contract": ".py",
    "rdnscache.store.decoding": ".py",
    "rdnscache.store.link": ".py",
    "rdnscache.store.nostore": ".py",
    "rdnscache.store.pipe": ".py",
    "rdnscache.store.resp": ".py",
    "rdnscache.store.seal": ".py",
    "rdnscache.store.store": ".py",
    "rdnscache.store.trust": ".py",
    "rdnscache.upstream.exchange": ".py",
    "rdnscache.upstream.health": ".py",
    "rdnscache.upstream.reading": ".py",
    "rdnscache.upstream.search": ".py",
    "rdnscache.upstream.server": ".py",
    "rdnscache.upstream.servers": ".py",
}
#: Types come from the .pxd files alone; an annotation says what a person may rely on.
DIRECTIVES = {"language_level": "3", "annotation_typing": False, "boundscheck": True, "nonecheck": True}


class BuildOrGoWithout(build_ext):
    """All modules or none: they use each other's C types."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        try:
            super().run()
        except Exception as error:  # whatever it was, the plain form works
            self.extensions = []
            for name in COMPILED:
                Path(self.get_ext_fullpath(name)).unlink(missing_ok=True)
            print(f"rdnscache: no compiled form ({error}); the plain Python form is installed")
        else:
            print("rdnscache: the compiled form is installed")


def extensions():
    if os.environ.get("RDNSCACHE_PURE") or sys.platform != "linux":
        print("rdnscache: the plain Python form is installed")
        return []
    from Cython.Build import cythonize

    # a method of the wrong type in a table of methods is a warning to the compiler, and a crash in the end
    flags = ["-Werror=incompatible-pointer-types"]
    sources = {name: name.replace(".", "/") + suffix for name, suffix in COMPILED.items()}
    modules = [Extension(name, [source], extra_compile_args=flags) for name, source in sources.items()]
    return cythonize(modules, compiler_directives=DIRECTIVES, build_dir="build/cython")


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildOrGoWithout})
