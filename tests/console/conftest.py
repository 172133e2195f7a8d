import pytest

from kindling_console_world import Member, World, make_world
from kindling_fake_stripe import fake_stripe, payments_on

__all__ = ["fake_stripe", "payments_on"]


@pytest.fixture
def world(db) -> World:
    return make_world()


@pytest.fixture
def member(world: World) -> Member:
    return world.member("ada")
