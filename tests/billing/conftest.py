"""One stand-in for Stripe for all tests here: each has owners of its own there."""

import time
from collections.abc import Iterator

import pytest

from kindling_fake_stripe import FakeStripe, fake_stripe
from kindling_till import Till

__all__ = ["fake_stripe"]


@pytest.fixture
def fresh_stripe(fake_stripe: FakeStripe) -> FakeStripe:
    """The stand-in as if it had seen nothing yet, where whole books are compared."""
    fake_stripe.switch("forget")
    fake_stripe.calm()
    return fake_stripe


@pytest.fixture
def till(fake_stripe: FakeStripe, db: None) -> Iterator[Till]:
    fake_stripe.calm()
    fake_stripe.webhooks()
    # Each test begins at the present, wherever the one before it went.
    fake_stripe.switch("clock", advance_s=time.time() - fake_stripe.switch("clock", advance_s=0)["now"])
    yield Till(fake_stripe, fake_stripe.api())
    fake_stripe.calm()
