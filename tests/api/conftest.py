"""People who call the API."""

import pytest

from kindling_people import Customer, make_customer, make_operator


@pytest.fixture
def ada(db: None) -> Customer:
    return make_customer("ada")


@pytest.fixture
def bob(db: None) -> Customer:
    return make_customer("bob")


@pytest.fixture
def operator(db: None) -> Customer:
    return make_operator()
