import pytest

from kindling_console_world import Member, World, make_world


@pytest.fixture
def world(db) -> World:
    return make_world()


@pytest.fixture
def member(world: World) -> Member:
    return world.member("ada")
