"""Fixtures that every test file may use. The parts themselves are in support/."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import ExitStack

import dns.rdata
import pytest
from hypothesis import settings
from support import KINDS, RedisServer, Upstream
from support.compiled import refuse_outdated
from support.pure import guarded

settings.register_profile("rdnscache", deadline=None)  # a machine may be busy
settings.load_profile("rdnscache")
# What dnspython loads when it is first asked depends on the class it is asked for, and is kept: types would be unknown.
dns.rdata.load_all_types()


def pytest_sessionstart() -> None:
    """Before a module is imported that may have been compiled."""
    refuse_outdated()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # run in the background: what tests start would ignore it too
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests are never garbage: without this, every collection of it would look through them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is about Redis itself is marked `both` and runs with each kind there is here; all else with one.

    Run a second time, in plain Python, it runs with one as well: what a server says does not depend on our form.
    """
    if "redis_server" in metafunc.fixturenames:
        again = "not once" in metafunc.config.getoption("markexpr")
        both = metafunc.definition.get_closest_marker("both") is not None and not again
        there = [kind for kind, binary in KINDS.items() if binary] or list(KINDS)
        metafunc.parametrize("redis_server", list(KINDS) if both else there[:1], indirect=True)


@pytest.fixture
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A running server of a kind. With CI set, there must be one at least."""
    binary = KINDS[request.param]
    if binary is None:
        if os.environ.get("CI") and not any(KINDS.values()):
            pytest.fail("there is no Redis server here to test with")
        pytest.skip(f"there is no {request.param} server here")
    with RedisServer(binary) as server:
        yield server


@pytest.fixture
def second_redis() -> Iterator[RedisServer]:
    """One more, of any kind."""
    with RedisServer() as second:
        yield second


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """For what is to end with the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture(autouse=True)
def _pure(request: pytest.FixtureRequest) -> Iterator[None]:
    """Holds a test to its mark."""
    if request.node.get_closest_marker("pure") is None:
        yield
        return
    with guarded():
        yield
