"""People who call the API."""

import pytest

from kindling_fake_stripe import fake_stripe, payments_on
from kindling_people import Customer, make_customer, make_operator

__all__ = ["fake_stripe", "payments_on"]


@pytest.fixture
def ada(db: None) -> Customer:
    return make_customer("ada")


@pytest.fixture
def bob(db: None) -> Customer:
    return make_customer("bob")


@pytest.fixture
def operator(db: None) -> Customer:
    return make_operator()
