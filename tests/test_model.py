"""A flush and the flights beside it in every order, over the real scripts and the real deletion on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from support import RedisServer

from chaos.model import ANNOUNCE, COLLECT, DELETE, Space
from chaos.orders import BELIEVING, SPACES, Search, sample
from chaos.scene import Scene
from rdnscache.store.contract import FILL
from rdnscache.store.script import Script

#: About scripts and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once

#: Those that are small enough to be tried as a whole here; `python -m chaos model` does that with all.
WHOLE = (
    "one connection each",
    "an entry is there",
    "several connections each",
    "another comes to who follows",
    "another comes, several connections each",
)
#: Where one worker does not confirm, and another has two flights for the same name.
COMES_LATE = "another comes, workers do not confirm"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def scene(server: RedisServer) -> Iterator[Scene]:
    scene = Scene(str(server.socket))
    yield scene
    scene.close()


@pytest.mark.parametrize("name", WHOLE)
def test_no_order_ends_with_an_old_answer_or_a_lost_follower(scene: Scene, name: str) -> None:
    """A leader, a second one and a flush, with a lease that ends: all orders there are."""
    found = Search(scene, next(space for space in SPACES if space.name == name)).run()
    assert (found.examples, found.bad) == ({}, {})
    assert found.orders > 10**8


@pytest.mark.parametrize("space", [space for space in SPACES if space.name not in WHOLE], ids=lambda space: space.name)
def test_none_of_some_orders_does(scene: Scene, space: Space) -> None:
    """What is too large to be tried as a whole: some orders of each, always the same."""
    found = sample(scene, space, orders=400, seed=1)
    assert (found.examples, found.bad) == ({}, {})


def test_what_is_older_has_to_be_passed_over(scene: Scene) -> None:
    """The model finds what is read from Redis between the announcement and the deletion."""
    found = Search(scene, BELIEVING).run()
    assert found.bad["old in L1"] > 0


def test_an_answer_from_before_a_flush_is_not_to_be_passed_on(server: RedisServer) -> None:
    """The model finds why who followed from before is not told: another has come to that worker after the flush."""
    silent, telling = b"  kind = 'release'\n", b"  kind = kind == 'release' and kind or 'pass'\n"
    assert silent in FILL.source
    scene = Scene(str(server.socket), Script(FILL.source.replace(silent, telling)))
    space = next(space for space in SPACES if space.name == COMES_LATE)
    found = Search(scene, replace(space, refusing=False)).run()  # who has heard of the flush passes it over anyway
    scene.close()
    assert found.bad["old in L1"] > 0


def test_a_fill_without_its_claim_is_not_to_be_stored(server: RedisServer) -> None:
    """The model finds what a fill's own token is for: without, a leader whose lease has ended stores behind a flush."""
    strict, lenient = b"elseif owner ~= ARGV[1] then", b"elseif owner and owner ~= ARGV[1] then"
    assert strict in FILL.source
    scene = Scene(str(server.socket), Script(FILL.source.replace(strict, lenient)))
    found = Search(scene, Space("before", program=(DELETE, ANNOUNCE, COLLECT))).run()
    scene.close()
    assert found.bad["old in Redis"] > 0
