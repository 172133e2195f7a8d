import pytest

from kindling_console_world import Member, World, make_world
from kindling_fake_stripe import fake_stripe, payments_on

__all__ = ["fake_stripe", "payments_on"]


@pytest.fixture(scope="module")
def kept_world(module_rows: None) -> World:
    return make_world()


@pytest.fixture
def world(kept_world: World, db: None) -> World:
    """That of the module as it was made; modules with transactional tests make one for each."""
    return kept_world.again()


@pytest.fixture
def member(world: World) -> Member:
    return world.member("ada")
