import pytest

from kindling_console_world import Member, World, make_world
from kindling_fake_stripe import fake_stripe, payments_on

__all__ = ["fake_stripe", "payments_on"]


@pytest.fixture(scope="module")
def kept_world(kept_rows: bool) -> World | None:
    return make_world() if kept_rows else None


@pytest.fixture(scope="module")
def kept_member(kept_world: World | None) -> Member | None:
    return kept_world.member("ada") if kept_world else None


@pytest.fixture
def world(kept_world: World | None, db: None) -> World:
    """That of the module as it was made; modules with transactional tests make one for each."""
    return kept_world.again() if kept_world else make_world()


@pytest.fixture
def member(kept_member: Member | None, world: World) -> Member:
    return kept_member.again() if kept_member else world.member("ada")
