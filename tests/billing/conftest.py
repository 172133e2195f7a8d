"""One stand-in for Stripe for all tests here: each has owners of its own there."""

import time
from collections.abc import Iterator

import pytest

from kindling_fake_stripe import FakeStripe, fake_stripe, started_fake_stripe
from kindling_till import Till

__all__ = ["fake_stripe"]


@pytest.fixture
def fresh_stripe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeStripe]:
    """A stand-in that has seen nothing yet, where whole books are compared."""
    with started_fake_stripe(tmp_path_factory.mktemp("stripe")) as running:
        running.calm()
        yield running


@pytest.fixture
def till(fake_stripe: FakeStripe, db: None) -> Iterator[Till]:
    fake_stripe.calm()
    fake_stripe.webhooks()
    # Each test begins at the present, wherever the one before it went.
    fake_stripe.switch("clock", advance_s=time.time() - fake_stripe.switch("clock", advance_s=0)["now"])
    yield Till(fake_stripe, fake_stripe.api())
    fake_stripe.calm()
